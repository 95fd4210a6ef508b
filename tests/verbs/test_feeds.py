"""Random feeds keep what an example shows: masks of padding stay masks of padding."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.signature import Signature, TensorSpec
from onnxpress.verbs.convert import BATCHES
from onnxpress.verbs.feeds import random_feeds, seeds

MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])


def drawn(name: str, example: np.ndarray, rows: int = 40) -> np.ndarray:
    spec = TensorSpec(name, "int64", ("batch", "sequence"))
    feeds = random_feeds(Signature((spec,), ()), rows, 0, {name: example})
    assert feeds[name].dtype == np.int64
    return feeds[name]


@pytest.mark.parametrize("left", [False, True])
def test_padding_is_at_one_end(left: bool) -> None:
    mask = drawn("attention_mask", MASK[:, ::-1] if left else MASK)
    assert mask.shape == (40, 4)
    assert mask[0].all()
    assert mask.any(axis=1).all()
    steps = np.diff(mask, axis=1)
    assert ((steps >= 0) if left else (steps <= 0)).all()
    assert set(mask.sum(axis=1)) == {1, 2, 3, 4}


def test_other_integers_are_drawn_from_the_example() -> None:
    for name, example in (
        ("input_ids", MASK * 7),
        ("attention_mask", np.array([[0, 1, 0, 1]] * 2)),  # holes: no mask of padding
        ("attention_mask", np.array([[0, 2, 2, 2]] * 2)),
    ):
        values = drawn(name, example)
        assert set(np.unique(values)) == set(np.unique(example))
        assert (np.abs(np.diff(values != 0, axis=1)).sum(axis=1) > 1).any()


@pytest.mark.parametrize(
    "shape", [(), (1,), (1, 1), (2, 3), ("b",), ("b", 1), ("b", "n"), ("n", 0)]
)
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_booleans_take_both_values(shape: tuple[int | str, ...], seed: int) -> None:
    signature = Signature((TensorSpec("on", "bool", shape),), ())
    sizes = BATCHES if signature.dynamic_batch else (1,)
    drawn = [random_feeds(signature, *each)["on"] for each in seeds(signature, sizes, seed)]
    assert all(array.dtype == bool for array in drawn)
    assert {bool(value) for array in drawn for value in array.reshape(-1)} == (
        set() if 0 in shape else {False, True}
    )
    if len(shape) > 1 and shape[-1] not in (0, 1):
        assert all(array.any(axis=-1).all() for array in drawn)
        assert {bool(array[0].all()) for array in drawn} == {False, True}


def test_integers_called_masks_are_ones() -> None:
    signature = Signature((TensorSpec("attention_mask", "int64", ("b", "n")),), ())
    assert random_feeds(signature, 3, 2)["attention_mask"].all()
