"""What holds for every task: the origin has quality 1, and nothing that is wrong comes near it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from onnxpress import registry
from onnxpress.processing import ImageProcessing, Processing
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.sources._transformers.text import text_processing
from onnxpress.task import Bound, Quality, Scored, Task, choose
from zoo.texts import NOUNS, SPECIAL, VERBS, WORDS, tokenizer

ROWS = 120
FLOOR = 0.9


@dataclass(frozen=True)
class Case:
    """A small model for one task: ``record(i)`` is the i-th sample, ``model`` makes its outputs."""

    kind: str
    signature: Signature
    processing: Processing | None
    record: Callable[[int], Record]
    model: Callable[[Feeds], Feeds]


def _noise(index: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(index).normal(size=shape).astype(np.float32)


def _pixels(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def _linear(feeds: Feeds) -> Feeds:
    [x] = feeds.values()
    flat = x.reshape(len(x), -1)
    return {"y": (flat - 0.5) @ _noise(1, flat.shape[1], 5)}


Y = TensorSpec("y", "float32", ("batch", 5))
FIRST = len(SPECIAL) + WORDS.index(NOUNS[0])
IDS = ("input_ids", "attention_mask")
TOKENS = tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in IDS)


def _text(index: int) -> Record:
    """As many words each: what a tokenizer pads depends on the longest text of a batch."""
    return Record(" ".join(np.random.default_rng(index).choice(NOUNS + VERBS, 6)), None, str(index))


def _bag(name: str) -> Callable[[Feeds], Feeds]:
    table = _noise(2, 64, 5)
    table -= table[FIRST : FIRST + len(NOUNS + VERBS)].mean(axis=0)  # no class wins everywhere

    def model(feeds: Feeds) -> Feeds:
        return {name: table[feeds["input_ids"][:, 1:-1]].mean(axis=1)}

    return model


def _tokenizer() -> Processing:
    return Processing(text=text_processing(tokenizer(), IDS))


def _embedded(feeds: Feeds) -> Feeds:
    return {"embedding": _linear(feeds)["y"]}


def _pixelwise(feeds: Feeds) -> Feeds:
    scores = np.einsum("bchw,cd->bdhw", feeds["x"] - 0.5, _noise(1, 3, 5))
    return {"y": scores.astype(np.float32)}


def _detected(feeds: Feeds) -> Feeds:
    """Twenty anchors in a row, on each a box of one of three classes with its own score."""
    [x] = feeds.values()
    noise = (x.reshape(len(x), -1) - 0.5) @ _noise(3, x[0].size, 20 * 3)
    scores = 1 / (1 + np.exp(6 - 2 * noise.reshape(-1, 20, 3)))
    places = np.stack([np.arange(20) * 20, np.zeros(20), np.full(20, 10), np.full(20, 10)], axis=1)
    places = np.broadcast_to(places.astype(np.float32), (len(x), 20, 4))
    return {"boxes": np.concatenate([places, scores.astype(np.float32)], axis=2)}


CASES = {
    "detection": Case(
        "images",
        Signature(
            (TensorSpec("x", "float32", ("batch", 3, 4, 4)),),
            (TensorSpec("boxes", "float32", ("batch", 20, 7)),),
        ),
        Processing(ImageProcessing()),
        lambda index: Record(_pixels(index), None, str(index)),
        _detected,
    ),
    "embedding": Case(
        "images",
        Signature(
            (TensorSpec("x", "float32", ("batch", 3, 4, 4)),),
            (TensorSpec("embedding", "float32", ("batch", 5)),),
        ),
        Processing(ImageProcessing()),
        lambda index: Record(_pixels(index), None, str(index)),
        _embedded,
    ),
    "image_to_image": Case(
        "images",
        Signature(
            (TensorSpec("x", "float32", ("batch", 3, 4, 4)),),
            (TensorSpec("y", "float32", ("batch", 3, 8, 8)),),
        ),
        Processing(ImageProcessing()),
        lambda index: Record(_pixels(index), None, str(index)),
        lambda feeds: {"y": feeds["x"].repeat(2, axis=2).repeat(2, axis=3)},
    ),
    "segmentation": Case(
        "images",
        Signature(
            (TensorSpec("x", "float32", ("batch", 3, 4, 4)),),
            (TensorSpec("y", "float32", ("batch", 5, 4, 4)),),
        ),
        Processing(ImageProcessing()),
        lambda index: Record(_pixels(index), None, str(index)),
        _pixelwise,
    ),
    "text_embedding": Case(
        "texts",
        Signature(TOKENS, (TensorSpec("sentence_embedding", "float32", ("batch", 5)),)),
        _tokenizer(),
        _text,
        _bag("sentence_embedding"),
    ),
    "text_classification": Case(
        "texts",
        Signature(TOKENS, (TensorSpec("logits", "float32", ("batch", 5)),)),
        _tokenizer(),
        _text,
        _bag("logits"),
    ),
    "tensor": Case(
        "tensors",
        Signature((TensorSpec("x", "float32", ("batch", 7)),), (Y,)),
        None,
        lambda index: Record({"x": _noise(index, 7)}, None, str(index)),
        _linear,
    ),
    "image_classification": Case(
        "images",
        Signature((TensorSpec("x", "float32", ("batch", 3, 4, 4)),), (Y,)),
        Processing(ImageProcessing()),
        lambda index: Record(_pixels(index), None, str(index)),
        _linear,
    ),
}


@pytest.fixture(params=registry.names("tasks"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    assert name in CASES, f"task '{name}' has no case here: add one"
    return CASES[name]


@pytest.fixture
def bound(name: str, case: Case) -> Bound:
    return registry.create(Task, "tasks", name).bind(case.signature, case.processing)


@pytest.fixture
def outputs(case: Case, bound: Bound) -> Feeds:
    return case.model(bound.encode([case.record(index) for index in range(ROWS)]))


def score(bound: Bound, candidate: Feeds, reference: Feeds, batch: int = 16) -> Quality:
    def cut(arrays: Mapping[str, np.ndarray], at: int) -> Feeds:
        return {name: array[at : at + batch] for name, array in arrays.items()}

    return bound.score(
        Scored(cut(candidate, at), cut(reference, at), [None] * min(batch, ROWS - at))
        for at in range(0, ROWS, batch)
    )


def test_a_task_is_the_natural_one_for_its_samples(name: str, case: Case) -> None:
    assert choose(case.signature, case.kind) == name


def test_encode_keeps_the_rows_and_fits_the_signature(case: Case, bound: Bound) -> None:
    records = [case.record(index) for index in range(5)]
    together = bound.encode(records)
    case.signature.check(together)
    for index, record in enumerate(records):
        for feed, array in bound.encode([record]).items():
            assert array.shape[0] == 1
            np.testing.assert_array_equal(array[0], together[feed][index])


def test_decode_gives_one_prediction_per_row(bound: Bound, outputs: Feeds) -> None:
    assert len(bound.decode(outputs)) == len(bound.rows(outputs)) == ROWS


def test_the_origin_has_quality_one(bound: Bound, outputs: Feeds) -> None:
    quality = score(bound, outputs, outputs)
    assert quality.value == 1
    assert FLOOR <= quality.low <= 1
    assert quality.n == ROWS


def test_a_constant_fails(bound: Bound, outputs: Feeds) -> None:
    """The mean output is the constant that is closest to all outputs."""
    for constant in (lambda array: array.mean(axis=0), lambda array: array[0], np.zeros_like):
        candidate = {
            name: np.broadcast_to(constant(array), array.shape).astype(array.dtype)
            for name, array in outputs.items()
        }
        assert score(bound, candidate, outputs).value < 0.5


def test_shuffled_rows_fail(bound: Bound, outputs: Feeds) -> None:
    order = np.random.default_rng(0).permutation(ROWS)
    shuffled = {name: array[order] for name, array in outputs.items()}
    assert score(bound, shuffled, outputs).value < 0.5


def test_nan_fails(bound: Bound, outputs: Feeds) -> None:
    nan = {name: np.full_like(array, np.nan) for name, array in outputs.items()}
    assert score(bound, nan, outputs).value == 0


def test_the_score_does_not_depend_on_the_batches(bound: Bound, outputs: Feeds) -> None:
    noisy = {name: array + 0.3 * _noise(2, *array.shape) for name, array in outputs.items()}
    one, many = (score(bound, noisy, outputs, batch) for batch in (ROWS, 7))
    assert one.value == pytest.approx(many.value, abs=1e-12)
    assert one.low == pytest.approx(many.low, abs=1e-12)
    assert one.low < one.value < 1


def test_a_perfect_candidate_proves_a_floor_with_the_samples_it_needs(bound: Bound) -> None:
    needed = bound.needed(FLOOR)
    assert needed is not None
    assert bound.provable(needed) >= FLOOR
    assert bound.provable(needed - 1) < FLOOR
