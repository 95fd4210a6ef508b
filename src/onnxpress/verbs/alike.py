"""Whether models take and give the same tensors, so that one can stand for another."""

from __future__ import annotations

from collections.abc import Mapping

from onnxpress.errors import InputError
from onnxpress.signature import Signature, TensorSpec


def check_alike(signatures: Mapping[str, Signature], baseline: str) -> None:
    """Raise ``InputError`` for the first model that takes other inputs than ``baseline``'s.

    Others are those of another name, type or rank, or of another size where both fix one. A model
    that lacks an output of the baseline's is none to compare with it either.
    """
    own = signatures[baseline]
    for name, signature in signatures.items():
        mine, theirs = ({spec.name: spec for spec in s.inputs} for s in (signature, own))
        fits = mine.keys() == theirs.keys() and all(_fits(mine[key], theirs[key]) for key in mine)
        if not fits:
            raise InputError(
                f"{name} takes {_told(signature.inputs)}",
                f"{_told(own.inputs)}, as {baseline} does",
                "bench models of the same inputs: rename them, or convert both from one original",
            )
        lacking = [s for s in own.outputs if s.name not in {o.name for o in signature.outputs}]
        if lacking:
            raise InputError(
                f"{name} gives {_told(signature.outputs)}",
                f"{_told(own.outputs)}, as {baseline} does",
                "bench models of the same outputs, by name",
            )


def _fits(one: TensorSpec, other: TensorSpec) -> bool:
    if one.dtype != other.dtype:
        return False
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(one.shape, other.shape, strict=True)
    )


def _told(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(str, specs)) or "nothing"
