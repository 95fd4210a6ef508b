"""What ``Session.run`` costs beside the bare call of its engine, and ``predict`` beside its parts.

    python benchmarks/bench_overhead.py [--calls 10000]

First an Identity of 8 numbers. The bare call of OpenVINO copies its output as ours does: the buffer
that it returns is overwritten by the next call. Then one JPEG file through MobileNetV2: decoding
and scaling, the run, and naming the class, one after another, beside ``Predictor.predict``. Calls
take turns; medians in microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

import onnxpress
from onnxpress import api, bundle, registry
from onnxpress.bundle import BundledForm, Manifest
from onnxpress.engine import Engine
from onnxpress.machine import this_machine
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.settings import Settings
from onnxpress.task import Task

Call = Callable[[], object]


def identity(path: Path) -> Path:
    """``y = x`` for rows of 8."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def bare(engine: str, path: Path, feeds: dict[str, np.ndarray]) -> Call:
    """As the engine's own documentation runs a file, on one thread."""
    if engine == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        return lambda: session.run(["y"], feeds)
    config = {"INFERENCE_NUM_THREADS": "1"}
    request = openvino.Core().compile_model(str(path), "CPU", config).create_infer_request()

    def call() -> np.ndarray:
        request.infer({0: feeds["x"]}, share_inputs=True)
        return np.array(request.get_output_tensor(0).data)

    return call


def medians(calls: dict[str, Call], count: int, turn: int = 100) -> dict[str, float]:
    """Microseconds of each, in turns of so many calls; the first five turns do not count."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(count // turn + 5):
        for name, call in calls.items():
            for _ in range(turn):
                started = time.perf_counter_ns()
                call()
                times[name].append(time.perf_counter_ns() - started)
    return {name: statistics.median(all_of[5 * turn :]) / 1e3 for name, all_of in times.items()}


def predicting(folder: Path) -> tuple[Call, Call]:
    """The parts of a prediction one after another, and ``predict``, on one photograph."""
    import models

    file = folder / "mobilenet_v2.onnx"
    converted = api.convert("torch:models:mobilenet_v2", preprocess="size=224", verify=False)
    converted.model.save(file)
    form = BundledForm("onnxruntime-float32", "", "", Settings("onnxruntime"), "float32")
    processing = Processing.parse("size=256,crop=224,mean=0.485/0.456/0.406,std=0.229/0.224/0.225")
    signature = converted.model.signature
    manifest = Manifest("image_classification", signature, processing, (form,), "latency", None)
    bundle.write(folder / "bundle", manifest, {form.name: file})
    photo = next(models.photos(folder / "photos", 1).iterdir())
    predictor = onnxpress.open(folder / "bundle")
    bound = registry.create(Task, "tasks", "image_classification").bind(signature, processing)
    record = Record(photo)

    def parts() -> object:
        outputs = predictor.run(bound.encode([record]))
        return bound.rows(outputs, [record])

    return parts, lambda: predictor.predict([photo])


def main() -> None:
    """Print a line for each engine, and one for a prediction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    options = parser.parse_args()
    feeds = {"x": np.ones((1, 8), np.float32)}
    print(f"{this_machine().cpu}, {options.calls} calls, median µs")
    with tempfile.TemporaryDirectory() as folder:
        path = identity(Path(folder) / "identity.onnx")
        for engine in ("onnxruntime", "openvino"):
            opened = registry.create(Engine, "engines", engine)
            with opened.open(path, Settings(engine, threads=1)) as session:
                found = medians(
                    {
                        "bare": bare(engine, path, feeds),
                        "ours": lambda: session.run(feeds),
                    },  # called here
                    options.calls,
                )
            more = found["ours"] - found["bare"]
            print(f"{engine:12} bare {found['bare']:6.1f}  ours {found['ours']:6.1f}  +{more:.1f}")
        parts, predict = predicting(Path(folder))
        found = medians({"parts": parts, "predict": predict}, options.calls // 50, turn=5)
        share = found["predict"] / found["parts"] - 1
        print(
            f"one JPEG     parts {found['parts']:.0f}  predict {found['predict']:.0f}  {share:+.1%}"
        )


if __name__ == "__main__":
    main()
