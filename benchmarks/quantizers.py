"""One run of one peer's quantiser, in a process of its own and the peers' environment.

    python benchmarks/quantizers.py TOOL MODEL SAMPLES OUT BITS

MODEL is an ONNX file, SAMPLES an .npz file whose rows are calibrated on one by one, OUT a folder.
Texts lose their padding. BITS are those of weights, 7 on CPUs that saturate products of 8, where a
tool can be told so. For ``sentence-transformers`` MODEL is its folder. Prints a JSON object: the
file that was written and the seconds it took, imports left out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def rows(samples: Path) -> Iterator[dict[str, np.ndarray]]:
    """Batches of one."""
    with np.load(samples) as file:
        arrays = dict(file)
    for index in range(len(next(iter(arrays.values())))):
        row = {name: array[index : index + 1] for name, array in arrays.items()}
        mask = row.get("attention_mask")
        if mask is not None:
            row = {name: array[:, : int(mask.sum())] for name, array in row.items()}
        yield row


def onnxruntime_static(model: Path, samples: Path, out: Path, bits: int) -> Callable[[], Path]:
    """QDQ, as its documentation advises: preprocessed, per channel, uint8 with int8 weights."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = rows(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    def run() -> Path:
        prepared, path = out / "prepared.onnx", out / "model.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            prepared, path, Reader(), per_channel=True, reduce_range=bits == 7,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return path

    return run


def onnxruntime_dynamic(model: Path, samples: Path, out: Path, bits: int) -> Callable[[], Path]:
    """Per channel."""
    from onnxruntime.quantization import quantize_dynamic

    def run() -> Path:
        path = out / "model.onnx"
        quantize_dynamic(model, path, per_channel=True, reduce_range=bits == 7)
        return path

    return run


def nncf_onnx(model: Path, samples: Path, out: Path, bits: int) -> Callable[[], Path]:
    """``nncf.quantize`` of the ONNX model."""
    import nncf
    import onnx

    def run() -> Path:
        path = out / "model.onnx"
        dataset, words = nncf_words(samples)
        onnx.save(nncf.quantize(onnx.load(model), dataset, **words), path)
        return path

    return run


def nncf_openvino(model: Path, samples: Path, out: Path, bits: int) -> Callable[[], Path]:
    """``nncf.quantize`` of the model as OpenVINO reads it."""
    import nncf
    import openvino

    def run() -> Path:
        path = out / "model.xml"
        dataset, words = nncf_words(samples)
        done = nncf.quantize(openvino.Core().read_model(model), dataset, **words)
        openvino.save_model(done, path, compress_to_fp16=False)
        return path

    return run


def nncf_words(samples: Path) -> tuple[Any, dict[str, Any]]:
    """Its dataset, and what it must be told of transformers."""
    import nncf

    items = list(rows(samples))
    text = "attention_mask" in items[0]
    words = {"model_type": nncf.ModelType.TRANSFORMER} if text else {}
    return nncf.Dataset(items), {**words, "subset_size": len(items)}


def sentence_transformers(model: Path, samples: Path, out: Path, bits: int) -> Callable[[], Path]:
    """``export_dynamic_quantized_onnx_model``; its static exporter takes texts from a hub."""
    from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model

    def run() -> Path:
        net = SentenceTransformer(
            str(model), backend="onnx", device="cpu",
            model_kwargs={"export": True, "provider": "CPUExecutionProvider"},
        )  # fmt: skip
        kind = "avx2" if bits == 7 else "avx512_vnni"
        export_dynamic_quantized_onnx_model(net, kind, str(out))
        return next(out.rglob("model_q*.onnx"))

    return run


TOOLS: dict[str, Callable[[Path, Path, Path, int], Callable[[], Path]]] = {
    "ort-static": onnxruntime_static,
    "ort-dynamic": onnxruntime_dynamic,
    "nncf-onnx": nncf_onnx,
    "nncf-openvino": nncf_openvino,
    "sentence-transformers": sentence_transformers,
}


def main() -> None:
    """Run what the command line says."""
    tool, model, samples, out, bits = sys.argv[1:]
    run = TOOLS[tool](Path(model), Path(samples), Path(out), int(bits))
    started = time.perf_counter()
    path = run()
    print(json.dumps({"path": str(path), "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
