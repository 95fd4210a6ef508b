"""Which constants of a graph nothing that is trained has a part in.

Exporters and passes rename, transpose, cut and fold parameters: neither a name nor equal numbers
tell what a constant was made of. So the module is exported again with other parameters, and what
stays the same is made of none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from onnxpress.model import Model
from onnxpress.training.borrowing import changed

MUCH = 1e-2
"""What parameters are changed by, of their own size: too little for any pass to see other ones."""


@dataclass(frozen=True)
class Frozen:
    """Initializers: ``names`` stay; ``mixed`` do not, and frozen parameters have a part in them."""

    names: frozenset[str] = frozenset()
    mixed: frozenset[str] = frozenset()


def frozen(module: nn.Module, model: Model, again: Callable[[], Model]) -> Frozen:
    """Of ``model``, which ``module`` was exported to; ``again`` exports it as it is by then.

    Frozen are buffers and parameters with ``requires_grad`` False. Where both are plainly there
    by name, because nothing is frozen but buffers that are no matrices, nothing is exported.
    """
    parameters = [p for p in module.parameters() if p.is_floating_point()]
    trained = [p for p in parameters if p.requires_grad]
    kept = [p for p in parameters if not p.requires_grad]
    if not kept and not any(b.is_floating_point() and b.ndim > 1 for b in module.buffers()):
        return Frozen(frozenset(name for name, _ in module.named_buffers()))
    constants = _constants(model)
    if not trained:
        return Frozen(frozenset(constants))
    moved = _moved(constants, trained, again)
    plain = {_content(parameter.detach().cpu().numpy()) for parameter in trained}
    doubtful = {name for name in moved if _content(constants[name]) not in plain}
    mixed = doubtful & _moved(constants, kept, again) if kept and doubtful else frozenset()
    return Frozen(frozenset(constants.keys() - moved), frozenset(mixed))


def _moved(
    constants: dict[str, np.ndarray], parameters: Sequence[Tensor], again: Callable[[], Model]
) -> set[str]:
    """The constants that ``parameters`` have a part in, and those that are not found again."""
    with changed(parameters, MUCH):
        others = _constants(again())
    return {
        name
        for name, array in constants.items()
        if name not in others or not np.array_equal(array, others[name], equal_nan=True)
    }


def _constants(model: Model) -> dict[str, np.ndarray]:
    """The floating-point ones, by name."""
    known = {
        name: value.const_value.numpy()
        for name, value in model.ir.graph.initializers.items()
        if value.const_value is not None
    }
    return {name: array for name, array in known.items() if array.dtype.kind == "f"}


def _content(array: np.ndarray) -> bytes:
    """Equal for arrays of the same numbers in whatever order and shape."""
    return np.sort(array, axis=None).tobytes()
