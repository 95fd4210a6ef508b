"""convert: which exporter's model is kept, and what is said of the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from onnxpress.engine import Session
from onnxpress.errors import ModelError, SourceError
from onnxpress.model import Model
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.source import Exported, ExportOptions, Origin
from onnxpress.verbs.convert import convert
from zoo.graphs import parse


def times(factor: float, dims: str = "n,3") -> Model:
    text = f"(float[{dims}] x) => (float[{dims}] y) {{ y = Mul(x, f) }}"
    return parse(text, f=np.float32(factor))


def dead() -> Model:
    """No engine loads it: its shapes do not fit."""
    text = "(float[n,3] x) => (float[n,3] y) { y = Add(x, f) }"
    return parse(text, f=np.zeros((2, 4), np.float32))


class Doubles(Session):
    signature = Signature(
        (TensorSpec("x", "float32", ("?", "?")),), (TensorSpec("y", "float32", ("?", "?")),)
    )

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        return {"y": 2 * feeds["x"]}


class Doubling(Origin):
    """``y = 2 x``, by exporters that make what they are told to, or fail."""

    kind, baseline = "doubling", "NumPy"

    def __init__(self, dynamo: Callable[[], Model], torchscript: Callable[[], Model]) -> None:
        self._makers = {"dynamo": dynamo, "torchscript": torchscript}
        self.asked: list[str] = []

    def session(self, threads: int | None = None) -> Session:
        return Doubles()

    def export(self, options: ExportOptions) -> Exported:
        name = "dynamo" if options.exporter == "auto" else options.exporter
        self.asked.append(name)
        return Exported(self._makers[name](), name)

    def fingerprint(self) -> str:
        return ""


def fails() -> Model:
    raise SourceError("it cannot be traced")


def right() -> Model:
    return times(2)


def wrong() -> Model:
    return times(3)


def test_a_right_model_is_proven_on_three_batches() -> None:
    origin = Doubling(right, fails)
    result = convert(origin)
    assert origin.asked == ["dynamo"]
    assert (result.exporter, result.fallback_reason) == ("dynamo", None)
    assert result.verified is not None
    assert [case.shapes["x"] for case in result.verified.cases] == [(1, 3), (2, 3), (5, 3)]
    assert result.verified.ok
    assert result.to_dict()["verified"] == result.verified.to_dict()


def test_a_fixed_batch_is_proven_on_that() -> None:
    result = convert(Doubling(lambda: times(2, "4,3"), fails))
    assert result.verified is not None
    assert [case.shapes["x"] for case in result.verified.cases] == [(4, 3)]


@pytest.mark.parametrize(
    ("first", "why"),
    [(wrong, "dynamo: the model differs (output 'y'[0, 0] is"), (dead, "dynamo: ")],
)
def test_the_other_exporter_takes_over(first: Callable[[], Model], why: str) -> None:
    result = convert(Doubling(first, right))
    assert result.exporter == "torchscript"
    assert str(result.fallback_reason).startswith(why)
    assert "/" not in str(result.fallback_reason), "a path of this machine is in the model"
    assert result.model.metadata["onnxpress.fallback_reason"] == result.fallback_reason
    assert result.verified is not None
    assert result.verified.ok


@pytest.mark.parametrize("second", [wrong, dead, fails])
def test_where_both_are_wrong_the_first_is_told(second: Callable[[], Model]) -> None:
    result = convert(Doubling(wrong, second))
    assert result.exporter == "dynamo"
    assert result.verified is not None
    assert not result.verified.ok
    with pytest.raises(ModelError, match=r"converted\.onnx is not valid ONNX \(\[ShapeInference"):
        convert(Doubling(dead, second))


def test_only_the_exporter_that_was_asked_for() -> None:
    origin = Doubling(wrong, right)
    result = convert(origin, ExportOptions(exporter="dynamo"))
    assert origin.asked == ["dynamo"]
    assert result.verified is not None
    assert not result.verified.ok


def test_without_a_proof_none_is_claimed() -> None:
    result = convert(Doubling(wrong, fails), verify=False)
    assert result.verified is None
    assert result.to_dict()["verified"] is None


def test_ones_own_feeds() -> None:
    feeds = {"x": np.full((7, 3), 5, np.float32)}
    result = convert(Doubling(right, fails), batches=lambda _: [feeds])
    assert result.verified is not None
    assert [case.shapes["x"] for case in result.verified.cases] == [(7, 3)]


class Sized(Session):
    """Twice ``x``, of any even width; and ``z``, three times it."""

    signature = Signature(
        (TensorSpec("x", "float32", ("?", "?")),),
        (TensorSpec("y", "float32", ("?", "?")), TensorSpec("z", "float32", ("?", "?"))),
    )

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        if feeds["x"].shape[1] % 2:
            raise SourceError("an odd width")
        return {"y": 2 * feeds["x"], "z": 3 * feeds["x"]}


class Planted(Doubling):
    """Its exporter makes faults that only a sweep finds."""

    def __init__(self, made: Model, width: int = 12) -> None:
        super().__init__(lambda: made, fails)
        self._width = width

    @property
    def example(self) -> Feeds:
        return {"x": np.linspace(-1, 1, 2 * self._width, dtype=np.float32).reshape(2, -1)}

    def session(self, threads: int | None = None) -> Session:
        return Sized()


SWAPPED = "(float[n,w] x) => (float[n,w] y, float[n,w] z) {{ y = Mul(x, {}) z = Mul(x, {}) }}"
TWO, THREE = np.float32(2), np.float32(3)


def test_every_free_axis_is_tried_at_two_other_sizes_that_the_origin_takes() -> None:
    model = parse(SWAPPED.format("two", "three"), two=TWO, three=THREE)
    result = convert(Planted(model))
    assert result.verified is not None
    assert result.verified.ok
    shapes = [case.shapes["x"] for case in result.verified.cases]
    assert shapes == [(1, 12), (2, 12), (5, 12), (2, 6), (2, 18)]
    odd = convert(Planted(model, width=14)).verified
    assert odd is not None
    assert [case.shapes["x"] for case in odd.cases] == [(1, 14), (2, 14), (5, 14), (2, 28)]


def test_a_free_axis_of_one_size_is_told_or_refused() -> None:
    class OneWidth(Planted):
        def session(self, threads: int | None = None) -> Session:
            return OneSize()

    class OneSize(Sized):
        def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
            if feeds["x"].shape[1] != 12:
                raise SourceError("x has another width", "12 columns")
            return super()._run(feeds)

    model = parse(SWAPPED.format("two", "three"), two=TWO, three=THREE)
    result = convert(OneWidth(model))
    assert result.to_dict()["untried"] == ["w"]
    with pytest.raises(SourceError, match="takes no other size of 'w'"):
        convert(OneWidth(model), ExportOptions(shapes={"x": ("n", "w")}))


def test_integers_below_the_examples_largest_are_tried() -> None:
    """A trace that keeps the largest length of its example is found."""

    class UpTo(Session):
        signature = Signature(
            (TensorSpec("k", "int64", ("?",)),), (TensorSpec("y", "int64", ("?",)),)
        )

        def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
            return {"y": np.arange(feeds["k"].max())}

    class Lengths(Planted):
        @property
        def example(self) -> Feeds:
            return {"k": np.array([7, 7, 7, 7, 7, 7, 2])}

        def session(self, threads: int | None = None) -> Session:
            return UpTo()

    text = "(int64[n] k) => (int64[m] y) { z = ReduceMax<keepdims=0>(k) l = Max(z, seven) "
    model = parse(text + "y = Range(zero, l, one) }", seven=np.int64(7), zero=np.int64(0),
                  one=np.int64(1))  # fmt: skip
    result = convert(Lengths(model))
    assert result.verified is not None
    assert not result.verified.ok
    assert "[7]" in str(result.verified.first_mismatch)


def test_swapped_outputs_are_found() -> None:
    result = convert(Planted(parse(SWAPPED.format("three", "two"), two=TWO, three=THREE)))
    assert result.verified is not None
    assert not result.verified.ok
    assert result.verified.first_mismatch is not None
    assert result.verified.first_mismatch.output == "y"


@pytest.mark.parametrize("shape", [(2, -1), (-1, 12)])
def test_an_axis_that_the_exporter_froze_is_found(shape: tuple[int, int]) -> None:
    text = (
        "(float[n,w] x) => (float[n,w] y, float[n,w] z) "
        "{ y = Mul(x, two) r = Reshape(x, s) z = Add(y, r) }"
    )
    model = parse(text, two=TWO, s=np.array(shape, np.int64))
    result = convert(Planted(model))
    assert result.verified is not None
    assert not result.verified.ok
    assert "it fails where the original runs, on x[" in str(result.verified.first_mismatch)


def test_dropout_of_training_is_found() -> None:
    text = (
        "(float[n,w] x) => (float[n,w] y, float[n,w] z) "
        "{ d = Dropout(x, ratio, on) y = Mul(d, two) z = Mul(x, three) }"
    )
    model = parse(text, two=TWO, three=THREE, ratio=np.float32(0.5), on=np.array(True))
    result = convert(Planted(model))
    assert result.verified is not None
    assert not result.verified.ok
