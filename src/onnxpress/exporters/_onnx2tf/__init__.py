"""onnx2tf, which writes TensorFlow's two formats, in a process of its own.

It prints at length, seeds generators and sets variables of the environment; a process keeps all
of that away. Its wheel pins every package that it was tested with, so it comes without
dependencies: the few that this path imports are the extra ``tflite``. It asks for Python 3.12, and
works on 3.11.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from onnxpress.errors import EngineError, MissingExtra
from onnxpress.signature import Signature

VERSION = "2.6.9"
INSTALL = (
    "run: pip install 'onnxpress[tflite,tensorflow]' && pip install --no-deps "
    f"--ignore-requires-python onnx2tf=={VERSION} tf-keras==2.21.0"
)
"""tf-keras is imported on the way to a SavedModel; its version is TensorFlow's."""
NEEDS = ("ai_edge_litert", "psutil", "sng4onnx")


def require(*more: str) -> None:
    """Raise ``MissingExtra`` with both commands where onnx2tf, or what it imports, is missing."""
    try:
        version = importlib.metadata.version("onnx2tf")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    absent = [name for name in (*NEEDS, *more) if importlib.util.find_spec(name) is None]
    if version == VERSION and not absent:
        return
    raise MissingExtra(
        f"{absent[0]} is not installed" if version == VERSION
        else f"onnx2tf {version} is installed" if version else "onnx2tf is not installed",
        f"onnx2tf {VERSION}, which writes TensorFlow's formats",
        INSTALL,
    )  # fmt: skip


def convert(model: Path, output: Path, kind: str) -> None:
    """Have the ONNX file ``model`` written to ``output``.

    ``kind`` is ``tflite`` (``output`` is a file) or ``tensorflow`` (a folder). Raises
    ``EngineError`` with the operators, or the reason, where the model has no such form.
    """
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        told = Path(folder) / "told.json"
        words = [str(model.absolute()), str(output.absolute()), kind, str(told)]
        ended = subprocess.run(
            [sys.executable, "-m", f"{__name__}.child", *words],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        answer = json.loads(told.read_text()) if told.is_file() else {}
    if ended.returncode == 0 and not answer:
        return
    if "operators" in answer:
        raise EngineError(
            f"onnx2tf has no form in {kind} for the operators {', '.join(answer['operators'])}",
            "",
            "leave this part of the model out, or export to openvino or ort",
        )
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    reason = answer.get("reason") or (lines[-1] if lines else f"exit code {ended.returncode}")
    raise EngineError(f"onnx2tf cannot take the model ({reason[:300]})")


def require_same(
    signature: Signature, inputs: Mapping[str, tuple[int, ...]], outputs: Iterable[str]
) -> None:
    """Raise ``EngineError`` where what was written has other names, or a free dimension froze.

    ``inputs`` are the shapes by name, with -1 for what is free.
    """
    for kind, wanted, found in (
        ("inputs", {spec.name for spec in signature.inputs}, set(inputs)),
        ("outputs", {spec.name for spec in signature.outputs}, set(outputs)),
    ):
        if wanted != found:
            raise EngineError(
                f"onnx2tf wrote the {kind} {', '.join(sorted(found))}", ", ".join(sorted(wanted))
            )
    for spec in signature.inputs:
        for axis, (dim, size) in enumerate(zip(spec.shape or (), inputs[spec.name], strict=False)):
            if isinstance(dim, str) and size >= 0:
                raise EngineError(
                    f"onnx2tf froze axis {axis} ('{dim}') of input '{spec.name}' to {size}",
                    "a free one",
                    f"fix it yourself: onnxpress optimize MODEL --fix {dim}=SIZE -o FIXED",
                )
