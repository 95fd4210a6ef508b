"""verify says where two models first differ, and never overlooks it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from onnxpress.engine import Session
from onnxpress.errors import InputError
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.verbs.verify import Verified, compare, magnitude

X = TensorSpec("x", "float32", ("n", 2))


class Fixed(Session):
    """Answers with given outputs."""

    def __init__(self, **outputs: np.ndarray) -> None:
        super().__init__()
        self._outputs = outputs
        specs = [TensorSpec(key, str(a.dtype), tuple("?" * a.ndim)) for key, a in outputs.items()]
        self.signature = Signature((X,), tuple(specs))

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        return dict(self._outputs)


def verified(a: np.ndarray, b: np.ndarray, rtol: float | None = None) -> Verified:
    feeds = {"x": np.zeros((1, 2), np.float32)}
    return compare(Fixed(y=a), Fixed(y=b), [feeds, feeds], rtol)


def floats(*values: float, dtype: str = "float32") -> np.ndarray:
    return np.array(values, dtype)


def test_equal_models() -> None:
    result = verified(floats(1, 2), floats(1, 2))
    assert (result.ok, result.max_abs_diff, result.first_mismatch) == (True, 0, None)
    assert len(result.cases) == 2
    assert result.to_dict()["cases"][0]["shapes"] == {"x": (1, 2)}  # type: ignore[index]


def test_the_first_mismatch() -> None:
    result = verified(floats(1, 2, 3), floats(1, 2.5, 9))
    assert not result.ok
    mismatch = result.first_mismatch
    assert mismatch is not None
    assert (mismatch.output, mismatch.index, mismatch.a, mismatch.b) == ("y", (1,), 2.0, 2.5)
    assert str(mismatch) == "output 'y'[1] is 2.0 and 2.5 on x[1, 2]"
    assert result.max_abs_diff == 6
    assert result.max_rel_diff == 2


@pytest.mark.parametrize(
    ("a", "b", "ok"),
    [
        (floats(np.nan, 1), floats(np.nan, 1), True),
        (floats(np.nan, 1), floats(0, 1), False),
        (floats(0, 1), floats(np.nan, 1), False),
        (floats(np.inf, 1), floats(np.inf, 1), True),
        (floats(np.inf, 1), floats(-np.inf, 1), False),
        (floats(1e30, 1), floats(np.inf, 1), False),
        (floats(100, 0), floats(100, 0.005), True),
        (floats(100, 0), floats(100, 0.05), False),
        (floats(1e-10, 2e-10), floats(1e-10, 3e-10), False),
        (floats(1, 2, dtype="float64"), floats(1, 2.00001, dtype="float64"), False),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.array(["a"], object), np.array(["b"], object), False),
        (np.array([True]), np.array([True]), True),
        (floats(1, 2), floats(1), False),
        (floats(), floats(), True),
    ],
)
def test_values(a: np.ndarray, b: np.ndarray, ok: bool) -> None:
    assert verified(a, b).ok is ok


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, -2, -1e9, -1e9), 2),
        ((1, 2, -3.4e38), 2),
        ((-1e9, -1e9, 65504, 65504, 2, 2.5), 2.5),
        ((-1e9, -1e9), 1e9),
        ((1, 1e-12), 1),
        ((123456, 0.5), 123456),
        ((1e5, 1e5, 0, 0), 1e5),
        ((20000, 19999, 3), 20000),
        ((), 0),
    ],
)
def test_magnitude_leaves_out_what_stands_for_nothing(
    values: tuple[float, ...], expected: float
) -> None:
    assert magnitude(np.abs(np.array(values, np.float64)), 1e7) == pytest.approx(expected)


def test_a_lone_large_value_is_one_where_the_type_has_digits_for_all() -> None:
    def ok(dtype: str) -> bool:
        return verified(floats(1e10, 1.0, dtype=dtype), floats(1e10, 1.01, dtype=dtype)).ok

    assert (ok("float32"), ok("float64")) == (False, True)


def test_masked_values_hide_no_difference() -> None:
    masked = floats(-1e9, 1.0, -1e9, 2.0)
    other = floats(-1e9, -50.0, -1e9, 2.0)
    result = verified(masked, other)
    assert not result.ok
    assert result.first_mismatch is not None
    assert result.first_mismatch.index == (1,)


def test_a_tolerance_of_ones_own() -> None:
    a, b = floats(100, 1), floats(100.5, 1)
    assert not verified(a, b, rtol=1e-3).ok
    assert verified(a, b, rtol=1e-2).ok


def test_values_that_are_no_numbers_are_counted() -> None:
    whole = verified(floats(1, 2), floats(1, 2))
    half = verified(floats(np.nan, 2), floats(np.nan, 2))
    assert (whole.finite, half.finite) == (1, 0.5)
    assert half.ok


def test_other_outputs_are_an_error() -> None:
    feeds = {"x": np.zeros((1, 2), np.float32)}
    with pytest.raises(InputError, match="only the first has y and only the second has z"):
        compare(Fixed(y=floats(1)), Fixed(z=floats(1)), [feeds])
    with pytest.raises(InputError, match="nothing to compare on"):
        compare(Fixed(y=floats(1)), Fixed(y=floats(1)), [])
