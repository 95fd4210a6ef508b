"""The functions that people call: Python's face of the commands, with the same words.

Each takes references as the command line does (``model.onnx``, ``torch:net.py:make``) or live
objects, and returns a frozen result whose ``to_dict()`` is what ``--json`` prints. ``preprocess``
says how images become tensors; ``tokenizer``, a folder with ``tokenizer.json``, how texts do.
"""

from __future__ import annotations

from onnxpress.api.models import (
    change_opset,
    check,
    convert,
    diff,
    export,
    inspect,
    listing,
    optimize,
    verify,
)
from onnxpress.api.quantizing import quantize, quantize_aware
from onnxpress.api.running import measure, press, profile, tune

__all__ = [
    "change_opset",
    "check",
    "convert",
    "diff",
    "export",
    "inspect",
    "listing",
    "measure",
    "optimize",
    "press",
    "profile",
    "quantize",
    "quantize_aware",
    "tune",
    "verify",
]
