"""Feeds that do not fit a model are refused with what it takes."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from onnxpress.errors import SamplesError
from onnxpress.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (
        TensorSpec("ids", "int64", ("batch", "length")),
        TensorSpec("mask", "float32", ("batch", "length")),
        TensorSpec("scale", "float32", (1, "?")),
        TensorSpec("words", "object", None),
    ),
    (TensorSpec("out", "bfloat16", ("batch", 8)),),
)
FEEDS = {
    "ids": np.zeros((2, 5), np.int64),
    "mask": np.zeros((2, 5), np.float32),
    "scale": np.zeros((1, 3), np.float32),
    "words": np.array(["a"]),
}


def test_feeds_that_fit_are_accepted() -> None:
    SIGNATURE.check(FEEDS)
    SIGNATURE.check(
        {**FEEDS, "words": np.array("a", object), "scale": np.zeros((1, 9), np.float32)}
    )
    spec = TensorSpec("x", "bfloat16", ())
    Signature((spec,), ()).check({"x": np.zeros((), ml_dtypes.bfloat16)})


@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        ({"other": np.zeros(1)}, "the samples feed 'other'; expected the inputs ids, mask, scale"),
        ({"ids": None}, r"lack input 'ids'; expected ids: int64\[batch, length\]"),
        (
            {"ids": np.zeros((2, 5), np.int32)},
            r"'ids' got int32\[2, 5\]; expected ids: int64\[batch, length\]; convert it to int64",
        ),
        ({"mask": np.zeros((2, 5, 1), np.float32)}, r"'mask' got float32\[2, 5, 1\]"),
        ({"mask": np.zeros(2, np.float32)}, r"'mask' got float32\[2\]"),
        ({"scale": np.zeros((2, 3), np.float32)}, r"expected scale: float32\[1, \?\]"),
        (
            {"mask": np.zeros((2, 6), np.float32)},
            "dimension 'length' is 5 in input 'ids' and 6 in 'mask'; expected one size",
        ),
        ({"words": np.zeros(1, np.float32)}, r"expected words: string\[…\]"),
    ],
)
def test_feeds_that_do_not_fit_say_what_would(
    feeds: dict[str, np.ndarray | None], told: str
) -> None:
    changed = {name: array for name, array in {**FEEDS, **feeds}.items() if array is not None}
    with pytest.raises(SamplesError, match=told):
        SIGNATURE.check(changed)


def test_a_signature_survives_json() -> None:
    text = json.dumps(SIGNATURE.to_dict())
    assert Signature.from_dict(json.loads(text)) == SIGNATURE


@pytest.mark.parametrize("shape", ["abc", 3, [1.5], [None], {"a": 1}])
def test_a_shape_is_numbers_and_names(shape: object) -> None:
    with pytest.raises(TypeError, match="the shape of x is"):
        TensorSpec.from_dict({"name": "x", "dtype": "float32", "shape": shape})


def test_rows_may_be_stacked_where_every_input_is_free() -> None:
    free, fixed = TensorSpec("a", "float32", ("n", 3)), TensorSpec("b", "float32", (1, 3))
    unknown, scalar = TensorSpec("c", "float32", None), TensorSpec("d", "float32", ())
    assert Signature((free,), ()).dynamic_batch
    for spec in (fixed, unknown, scalar):
        assert not spec.dynamic_batch
        assert not Signature((free, spec), ()).dynamic_batch
    assert not Signature((), ()).dynamic_batch
