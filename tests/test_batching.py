"""Batches by tokens, and predictions that come in order whatever ran first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.batching import TOKENS, WINDOW, cut, predictions
from onnxpress.engine import Session
from onnxpress.errors import SamplesError
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.task import Bound, Encoder, Prediction, Quality, Ready

FREE = Signature(
    (TensorSpec("ids", "int64", ("n", "tokens")),), (TensorSpec("y", "float32", ("n",)),)
)
FOUR = Signature((TensorSpec("ids", "int64", (4, "tokens")),), (TensorSpec("y", "float32", (4,)),))


@given(st.lists(st.integers(1, 700), max_size=200), st.integers(1, 1000))
def test_a_cut_holds_the_budget_and_loses_nothing(lengths: list[int], tokens: int) -> None:
    batches = cut(lengths, tokens)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or len(batch) * longest <= tokens
    longest_of = [max(lengths[place] for place in batch) for batch in batches]
    assert longest_of == sorted(longest_of, reverse=True)


def test_batches_are_as_full_as_the_budget_lets_them() -> None:
    assert cut([4, 9, 4, 4, 2], 12) == [[1], [0, 2, 3], [4]]
    assert cut([1, 2, 3, 4, 5], 100, rows=2) == [[4, 3], [2, 1], [0]]


class Texts(Encoder):
    """A text is as many tokens as it has letters."""

    def prepare(self, records: Sequence[Record]) -> list[Ready]:
        for record in records:
            if not isinstance(record.value, str):
                raise SamplesError("a record is no text", "a text")
        return [Ready(record, str(record.value), len(str(record.value))) for record in records]

    def stack(self, ready: Sequence[Ready]) -> Feeds:
        ids = np.zeros((len(ready), max(len(one.value) for one in ready)), np.int64)
        for row, one in enumerate(ready):
            ids[row, : len(one.value)] = [ord(letter) for letter in one.value]
        return {"ids": ids}


class Sums(Bound):
    """The sum of a text's letters."""

    def __init__(self) -> None:
        self.encoder = Texts()

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        return [{"sum": float(value)} for value in outputs["y"]]

    def score(self, batches: object) -> Quality:
        raise NotImplementedError

    def needed(self, floor: float) -> int | None:
        raise NotImplementedError


class Adder(Session):
    """Notes the sizes of what it runs."""

    def __init__(self, signature: Signature = FREE) -> None:
        super().__init__()
        self.signature, self.seen = signature, list[tuple[int, ...]]()

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        self.seen.append(feeds["ids"].shape)
        return {"y": feeds["ids"].sum(axis=1).astype(np.float32)}


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        "".join(chr(c) for c in rng.integers(97, 123, rng.integers(1, 40))) for _ in range(count)
    ]


def answers(
    values: Sequence[object], session: Session, tokens: int = TOKENS
) -> list[dict[str, float]]:
    records = (Record(value) for value in values)  # type: ignore[arg-type]  # bad ones too
    return list(predictions(Sums(), session, session.signature, records, tokens=tokens))  # type: ignore[arg-type]


@pytest.mark.parametrize("signature", [FREE, FOUR])
@pytest.mark.parametrize("count", [0, 1, 17, 300])
def test_in_order(count: int, signature: Signature) -> None:
    values, session = texts(count), Adder(signature)
    with session:
        found = answers(values, session, tokens=64)
    assert [one["sum"] for one in found] == [float(sum(map(ord, text))) for text in values]
    if signature is FREE:
        assert all(rows * longest <= 64 for rows, longest in session.seen)
    else:
        assert {rows for rows, _ in session.seen} <= {4}


def test_little_is_padded() -> None:
    values, session = texts(2000), Adder()
    answers(values, session)
    tokens = sum(map(len, values))
    assert (
        tokens / sum(rows * longest for rows, longest in session.seen) > 0.9
    )  # 0.5 in their own order


def test_windows_grow_and_one_is_read_ahead() -> None:
    read = []

    def source() -> Iterator[Record]:
        for text in texts(30_000):
            read.append(text)
            yield Record(text)

    session = Adder()
    stream = predictions(Sums(), session, FREE, source(), rows=8)
    assert not read
    next(stream)
    assert len(read) == 8
    most = 0
    for done, _ in enumerate(stream, start=2):
        most = max(most, len(read) - done)
    assert done == 30_000
    assert WINDOW <= most <= 2 * WINDOW


def test_what_came_before_a_bad_record_is_yielded() -> None:
    stream = iter(
        predictions(
            Sums(),
            Adder(),
            FREE,
            map(Record, ["a"] * 8 + [b"b"]),
            rows=8,  # type: ignore[list-item]
        )
    )
    assert [next(stream) for _ in range(8)] == [{"sum": 97.0}] * 8
    with pytest.raises(SamplesError, match="no text"):
        next(stream)
