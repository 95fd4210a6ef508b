"""Images in other sizes: resampled, and padded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

from onnxpress.training.attributes import Attributes, Unsupported
from onnxpress.training.operators.shaping import sizes

_MODES: Mapping[tuple[str, str], tuple[str, bool | None]] = {
    ("nearest", "asymmetric"): ("nearest", None),
    ("linear", "half_pixel"): ("linear", False),
    ("linear", "pytorch_half_pixel"): ("linear", False),
    ("linear", "align_corners"): ("linear", True),
    ("cubic", "half_pixel"): ("cubic", False),
    ("cubic", "pytorch_half_pixel"): ("cubic", False),
    ("cubic", "align_corners"): ("cubic", True),
}
"""Mode and coordinates → PyTorch's mode, and whether it aligns corners."""
_PREFIXES = {3: "", 4: "bi", 5: "tri"}
_PADDINGS = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _resize(
    given: Attributes,
    x: Tensor,
    region: Tensor | None = None,
    scales: Tensor | None = None,
    wanted: Tensor | None = None,
) -> Tensor:
    """What PyTorch's ``interpolate`` exports; ``region`` matters to cropping alone."""
    asked = (
        given.text("mode", "nearest"),
        given.text("coordinate_transformation_mode", "half_pixel"),
    )
    mode, aligned = _MODES.get(asked, ("", None))
    if not mode or given.integers("axes") is not None or x.dim() not in _PREFIXES:
        raise Unsupported(f"{asked[0]} with {asked[1]} on {x.dim()} dimensions")
    given.only(antialias=0, exclude_outside=0, keep_aspect_ratio_policy="stretch")
    if mode != "nearest":
        mode = f"{_PREFIXES[x.dim()]}{mode}"
    elif given.text("nearest_mode", "round_prefer_floor") != "floor":
        raise Unsupported(f"nearest_mode={given.text('nearest_mode', 'round_prefer_floor')}")
    if wanted is not None and wanted.numel():
        return functional.interpolate(x, sizes(wanted)[2:], mode=mode, align_corners=aligned)
    assert scales is not None
    factors = [float(factor) for factor in scales.tolist()[2:]]
    return functional.interpolate(
        x, scale_factor=factors, mode=mode, align_corners=aligned, recompute_scale_factor=False
    )


def _pad(
    given: Attributes,
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    amounts = sizes(pads)
    along = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in sizes(axes)]
    both = {axis: (amounts[i], amounts[i + len(along)]) for i, axis in enumerate(along)}
    first = min((axis for axis, pair in both.items() if any(pair)), default=x.dim())
    flat = [n for axis in range(x.dim() - 1, first - 1, -1) for n in both.get(axis, (0, 0))]
    mode = _PADDINGS[given.text("mode", "constant")]
    if not flat:
        return x
    if mode == "constant":
        return functional.pad(x, flat, value=0.0 if value is None else float(value))
    return functional.pad(x, flat, mode=mode)


RESIZING: Mapping[str, Callable[..., Tensor]] = {"Pad": _pad, "Resize": _resize}
