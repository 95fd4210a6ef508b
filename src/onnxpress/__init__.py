"""onnxpress: press a trained model into the fastest faithful form for this machine, and prove it.

``press`` does the whole job and ``open`` runs what it wrote. Each step is a function too:
``convert``, ``change_opset``, ``export``, ``verify``, ``inspect``, ``check``, ``diff``,
``optimize``, ``quantize``, ``quantize_aware``, ``measure``, ``tune``, ``profile``. All names are
loaded when they are first used; importing onnxpress imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "press": "onnxpress.api",
    "check": "onnxpress.api",
    "convert": "onnxpress.api",
    "diff": "onnxpress.api",
    "change_opset": "onnxpress.api",
    "export": "onnxpress.api",
    "verify": "onnxpress.api",
    "inspect": "onnxpress.api",
    "optimize": "onnxpress.api",
    "profile": "onnxpress.api",
    "quantize": "onnxpress.api",
    "quantize_aware": "onnxpress.api",
    "measure": "onnxpress.api",
    "tune": "onnxpress.api",
    "load": "onnxpress.model",
    "open": "onnxpress.predictor",
    "Model": "onnxpress.model",
    "Predictor": "onnxpress.predictor",
    "Processing": "onnxpress.processing",
    "Samples": "onnxpress.samples",
    "OnnxpressError": "onnxpress.errors",
}

__all__ = [
    "Model",
    "OnnxpressError",
    "Predictor",
    "Processing",
    "Samples",
    "__version__",
    "change_opset",
    "check",
    "convert",
    "diff",
    "export",
    "inspect",
    "load",
    "measure",
    "open",
    "optimize",
    "press",
    "profile",
    "quantize",
    "quantize_aware",
    "tune",
    "verify",
]

if TYPE_CHECKING:
    from onnxpress.api import (
        change_opset,
        check,
        convert,
        diff,
        export,
        inspect,
        measure,
        optimize,
        press,
        profile,
        quantize,
        quantize_aware,
        tune,
        verify,
    )
    from onnxpress.errors import OnnxpressError
    from onnxpress.model import Model, load
    from onnxpress.predictor import Predictor, open
    from onnxpress.processing import Processing
    from onnxpress.samples import Samples


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'onnxpress' has no attribute '{name}'")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
