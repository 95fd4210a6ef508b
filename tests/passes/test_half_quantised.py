"""What is quantised already, and what is besides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zoo
from onnxpress.model import load
from onnxpress.recipe import Recipe
from onnxpress.verbs.calibrate import gather
from zoo.graphs import Array, parse
from zoo.halves import FLOAT, HALF, close, narrowed, types

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_int8_activations_stay_beside_float32(zoo_model: Callable[[str], Path]) -> None:
    source = load(zoo_model("cnn"))
    feeds = zoo.feeds(source.signature, 3)
    recipe = Recipe.parse("quantize_static")
    int8, _ = recipe.apply(source, gather(recipe, source, lambda: [feeds]))
    after, _ = narrowed(int8, feeds)
    assert set(types(after, "Conv")) == {FLOAT}


@pytest.mark.parametrize("form", ["MatMulNBits", "DequantizeLinear"])
def test_weights_in_blocks_have_half_scales(form: str) -> None:
    text = "(float[n,64] x) => (float[n,64] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, w) }"
    source = parse(text, opset=21, ir_version=10, w=normal(64, 64))
    feeds = {"x": normal(9, 64)}
    recipe = Recipe.parse(f"quantize_blockwise(form={form}),to_float16")
    after, change = recipe.apply(source, gather(recipe, source, lambda: [feeds]))
    assert change.rewrites == (5 if form == "MatMulNBits" else 7)
    assert types(after, form)[0] == HALF
    blocks, _ = Recipe(recipe.passes[:1]).apply(source)
    close(blocks, after, feeds, 0.02)
