"""Ready tensors, one record each, become one batch of feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec


def stack(signature: Signature, records: Sequence[Record]) -> Feeds:
    """Feeds whose first dimension counts the records; the caller owns the arrays.

    A record's value maps each input's name to an array without the batch dimension; where the
    model has one input it may be the array itself. Lists and numbers are converted, arrays must
    have the input's dtype. An input that cannot be stacked (a scalar, or a fixed first dimension
    beside inputs whose first is free) is given whole and must be the same in all records of a
    batch. Where the one input takes rows of k numbers, a record of k numbers by other names, such
    as a table's row, is that row, in the record's order. Raises ``SamplesError`` naming the
    record and the input.
    """
    size = static_batch(signature)
    if not records or (size is not None and len(records) != size):
        raise SamplesError(
            f"a batch of {len(records)} records",
            f"{size if size is not None else 'at least 1'}, as the model's inputs have it",
        )
    values = [_by_input(signature, record) for record in records]
    feeds = {}
    for spec in signature.inputs:
        arrays = [
            _checked(signature, spec, value[spec.name], record)
            for value, record in zip(values, records, strict=True)
        ]
        for array, record in zip(arrays, records, strict=True):
            if array.shape != arrays[0].shape:
                raise SamplesError(
                    f"{_what(record)} has shape {list(array.shape)} for input '{spec.name}' and "
                    f"{_what(records[0])} has {list(arrays[0].shape)}",
                    "one shape within a batch",
                    "make them one size, or use batches of 1",
                )
            if _shared(signature, spec) and not np.array_equal(array, arrays[0]):
                raise SamplesError(
                    f"{_what(record)} has another '{spec.name}' than {_what(records[0])}",
                    "the same within a batch, since it has no batch dimension",
                    "use batches of 1",
                )
        feeds[spec.name] = arrays[0].copy() if _shared(signature, spec) else np.stack(arrays)
    return feeds


def static_batch(signature: Signature) -> int | None:
    """The fixed number of rows of a batch; None where it is free."""
    first = [spec.shape[0] for spec in signature.inputs if spec.shape]
    free = any(isinstance(size, str) for size in first)
    sizes = [size for size in first if isinstance(size, int)]
    return None if free or not sizes else sizes[0]


def _shared(signature: Signature, spec: TensorSpec) -> bool:
    if spec.shape is None:
        return False
    return not spec.shape or (spec.shape[0] != static_batch(signature) and not spec.dynamic_batch)


def _by_input(signature: Signature, record: Record) -> Mapping[str, object]:
    names = [spec.name for spec in signature.inputs]
    value: object = record.value
    if not isinstance(value, Mapping):
        if len(names) == 1:
            return {names[0]: value}
        raise SamplesError(
            f"{_what(record)} is one {type(value).__name__}",
            f"one array for each of the inputs {', '.join(names)}",
        )
    unknown, missing = set(value) - set(names), set(names) - set(value)
    if not unknown and not missing:
        return value
    if takes_columns(signature, len(value)) and all(map(_is_number, value.values())):
        return {names[0]: np.array(list(value.values()), signature.inputs[0].dtype)}
    raise SamplesError(
        f"{_what(record)} feeds {', '.join(map(str, value)) or 'nothing'}",
        f"the inputs {', '.join(names)}",
        "name them so" if len(value) == len(names) else "",
    )


def takes_columns(signature: Signature, count: int | None = None) -> bool:
    """Whether the one input takes floating-point rows of ``count`` (any number of) columns."""
    if len(signature.inputs) != 1:
        return False
    (spec,) = signature.inputs
    if spec.shape is None or len(spec.shape) != 2 or not spec.dtype.startswith("float"):
        return False
    width = spec.shape[1]
    return count is None or not isinstance(width, int) or width == count


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(signature: Signature, spec: TensorSpec, value: object, record: Record) -> np.ndarray:
    array = value if isinstance(value, np.ndarray) else _converted(spec, value, record)
    want = spec.shape if _shared(signature, spec) or spec.shape is None else spec.shape[1:]
    found = f"{_what(record)} gives input '{spec.name}' {array.dtype}{list(array.shape)}"
    shown = "…" if want is None else ", ".join(map(str, want))
    text = spec.dtype == "object" and array.dtype.kind in "UO"
    expected = f"{'text' if spec.dtype == 'object' else spec.dtype}[{shown}] for each record"
    if array.dtype.name != spec.dtype and not text:
        raise SamplesError(found, expected, f"convert it to {spec.dtype}")
    fits = want is None or (
        len(want) == array.ndim
        and all(isinstance(w, str) or w == h for w, h in zip(want, array.shape, strict=True))
    )
    if not fits:
        extra = want is not None and array.ndim == len(want) + 1 and array.shape[:1] == (1,)
        raise SamplesError(found, expected, "leave out the batch dimension" if extra else "")
    return array.astype(object) if text else array


def _converted(spec: TensorSpec, value: object, record: Record) -> np.ndarray:
    """Python numbers, text and lists as an array, if that loses no more than digits."""
    try:
        array = np.asarray(value)
        whole = array.dtype.kind in "iu" and np.dtype(spec.dtype).kind in "iu"
        if whole or np.can_cast(array.dtype, spec.dtype, "same_kind"):
            converted = array.astype(spec.dtype)
            if not whole or np.array_equal(converted, array):
                return converted
    except (TypeError, ValueError, OverflowError):
        pass  # ragged lists, and types that NumPy lacks: refused below
    raise SamplesError(
        f"{_what(record)} gives input '{spec.name}' a {type(value).__name__} that makes no "
        f"{spec.dtype} array",
        str(spec),
    )


def _what(record: Record) -> str:
    return f"record '{record.name}'" if record.name else "a record"
