"""OpenVINO's properties from settings, each checked by name."""

from __future__ import annotations

import functools

from onnxpress.errors import EngineError, nearest
from onnxpress.machine import this_machine
from onnxpress.settings import Settings

CPU = "CPU"
GROUP = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
CORE = ("ALLOW_AUTO_BATCHING", "AUTO_BATCH_TIMEOUT", "CACHE_DIR", "CACHE_MODE", "ENABLE_MMAP")
"""Properties that every device takes, since OpenVINO itself reads them; no device lists them."""
VIRTUAL = ("AUTO", "HETERO", "MULTI", "BATCH")
"""Devices that stand for others: ``AUTO:GPU,CPU``. Their properties are those of all of them."""


def check(settings: Settings) -> None:
    """Raise ``EngineError`` for a precision, device or property that this OpenVINO lacks."""
    if settings.precision not in PRECISIONS:
        raise EngineError(
            f"openvino was asked for {settings.precision}", f"one of {', '.join(PRECISIONS)}"
        )
    device = settings.provider or CPU
    if settings.provider_options:
        raise EngineError(
            f"openvino's device {device} with options", f"--session KEY=VALUE beside {device}"
        )
    kind = device.partition(":")[0].partition(".")[0]
    available = _devices()
    names = {each.partition(".")[0] for each in available}
    if kind not in (*names, *VIRTUAL):
        told = ", ".join((*available, "AUTO"))
        raise EngineError(f"openvino has no device {device} here", f"one of {told}")
    standing = [kind, *names] if kind in VIRTUAL else [kind]
    known = sorted({key for each in standing for key in _properties(each)})
    for key in settings.options:
        if key not in known:
            told = ", ".join(nearest(key, known) or known)
            raise EngineError(f"openvino has no property '{key}'", f"one of {told}")


def config(settings: Settings) -> dict[str, str]:
    """The properties to compile with."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(settings.threads or this_machine().threads),
        # Without this hint OpenVINO silently computes float32 models in bfloat16 or float16.
        "INFERENCE_PRECISION_HINT": PRECISIONS[settings.precision],
        # Quantises activations of float models with int8 weights unless it is off.
        GROUP: "0",
        **settings.options,
    }


@functools.cache
def _devices() -> tuple[str, ...]:
    import openvino

    return tuple(openvino.Core().available_devices)


@functools.cache
def _properties(device: str) -> tuple[str, ...]:
    """Those that may be set."""
    import openvino

    try:
        listed = openvino.Core().get_property(device, "SUPPORTED_PROPERTIES")
    except RuntimeError:  # a virtual device that this OpenVINO is built without
        listed = {}
    return tuple(sorted({*CORE, *(name for name, access in listed.items() if "W" in access)}))
