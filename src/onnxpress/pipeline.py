"""Pipeline: a session from records to predictions, with what stands before and behind a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxpress.engine import Executed, Session
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.task import Bound

RECORDS, PREDICTIONS = "records", "predictions"
SIGNATURE = Signature(
    (TensorSpec(RECORDS, "object", ("batch",)),), (TensorSpec(PREDICTIONS, "object", ("batch",)),)
)


class Pipeline(Session):
    """``inner`` between ``bound``'s encoding of records and what a caller gets for each of them.

    Takes and gives object (batch,): see ``feeds_of``. Closes ``inner`` with itself.
    """

    signature = SIGNATURE

    def __init__(self, inner: Session, bound: Bound) -> None:
        super().__init__()
        self._inner, self._bound = inner, bound

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        records: list[Record] = feeds[RECORDS].tolist()
        outputs = self._inner.run(self._bound.encode(records))
        return {PREDICTIONS: objects(self._bound.rows(outputs, records))}

    def executed(self) -> tuple[Executed, ...]:
        return self._inner.executed()

    def close(self) -> None:
        super().close()
        self._inner.close()


def feeds_of(records: Sequence[Record]) -> Feeds:
    """What a pipeline takes."""
    return {RECORDS: objects(records)}


def objects(values: Sequence[object]) -> np.ndarray:
    """Object (len(values),), whatever they are."""
    array = np.empty(len(values), object)
    for index, value in enumerate(values):  # NumPy would make arrays of more dimensions of some
        array[index] = value
    return array
