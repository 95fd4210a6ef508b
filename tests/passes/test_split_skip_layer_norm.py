from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnxpress
from onnxpress.model import Model
from onnxpress.passes.split_skip_layer_norm import SplitSkipLayerNorm
from onnxpress.recipe import Recipe
from onnxpress.verbs.calibrate import executed
from zoo.graphs import answers, apply, openvino_answers, parse

SPLIT = SplitSkipLayerNorm()
NORM = "LayerNormalization<axis=-1>(s, gamma, beta)"


def post_norm(body: str, size: int = 4, opset: int = 17) -> Model:
    rng = np.random.default_rng(size)
    written = parse(
        f"(float[n,l,{size}] x, float[n,l,{size}] r) => (float[n,l,{size}] y) {{ {body} }}", opset,
        gamma=rng.standard_normal(size).astype(np.float32),
        beta=rng.standard_normal(size).astype(np.float32),
        b=rng.standard_normal(size).astype(np.float32),
    )  # fmt: skip
    return Recipe.parse("fuse_skip_layer_norm").apply(written)[0]


def feeds(size: int = 4, batch: int = 2, length: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {k: rng.standard_normal((batch, length, size)).astype(np.float32) for k in "xr"}


@pytest.mark.parametrize("bias", ["s = Add(x, r)", "a = Add(x, b) s = Add(a, r)"])
def test_onnx_runtime_does_not_make_it_one_again(bias: str) -> None:
    fused = post_norm(f"{bias} y = {NORM}")
    assert fused.op_counts() == {"com.microsoft::SkipLayerNormalization": 1}
    after, change = apply(SPLIT, fused, feeds())
    assert change.rewrites == 1
    assert after.op_counts() == {"Sum": 1, "LayerNormalization": 1}
    assert {kernel.op for kernel in executed(after)} == {"Sum", "LayerNormalization"}
    for one, two in zip(answers(fused, feeds()), openvino_answers(after, feeds()), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_the_sum_as_an_output_stays_one() -> None:
    fused = parse(
        """(float[n,l,4] x, float[l,4] r) => (float[n,l,4] y, float[n,l,4] z)
        { y, m, d, s = com.microsoft.SkipLayerNormalization<epsilon=0.01>(x, r, gamma)
          z = Relu(s) }""",
        gamma=np.float32([1, 2, 3, 4]),
    )
    fused.ir.opset_imports["com.microsoft"] = 1
    given_ = {**feeds(), "r": np.ones((3, 4), np.float32)}
    after, change = apply(SPLIT, fused, given_, known=False)
    assert change.rewrites == 1
    (norm,) = (node for node in after.nodes() if node.op_type == "LayerNormalization")
    assert norm.attributes.get_float("epsilon", 0) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("dtype", "outputs", "opset", "why"),
    [
        ("float16", "y", 17, "of float32"),
        ("float", "y", 16, "needs opset 17, the model has 16"),
        ("float", "y, z", 17, "its mean or deviation is read"),
    ],
)
def test_what_is_left_alone_is_told(dtype: str, outputs: str, opset: int, why: str) -> None:
    more = f", {dtype}[n,l,1] z" if "z" in outputs else ""
    fused = parse(
        f"({dtype}[n,l,4] x, {dtype}[n,l,4] r) => ({dtype}[n,l,4] y{more})"
        f" {{ {outputs} = com.microsoft.SkipLayerNormalization(x, r, gamma) }}",
        opset, gamma=np.ones(4, np.float16 if dtype == "float16" else np.float32),
    )  # fmt: skip
    fused.ir.opset_imports["com.microsoft"] = 1
    after, change = SPLIT.apply(fused)
    assert after is fused
    assert why in change.reasons[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(0, 3), st.integers(1, 9), st.booleans())
def test_any_size(batch: int, length: int, size: int, biased: bool) -> None:
    body = f"a = Add(x, b) s = Add(a, r) y = {NORM}" if biased else f"s = Add(x, r) y = {NORM}"
    fused = post_norm(body, size)
    after, change = SPLIT.apply(fused)
    assert change.rewrites == 1
    data = feeds(size, batch, length)
    for one, two in zip(answers(fused, data), answers(after, data), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_the_operators_own_epsilon() -> None:
    fused = parse(
        """(float[n,l,4] x, float[n,l,4] r) => (float[n,l,4] y)
        { y = com.microsoft.SkipLayerNormalization(x, r, gamma) }""",
        gamma=np.ones(4, np.float32),
    )
    fused.ir.opset_imports["com.microsoft"] = 1
    small = {name: array * np.float32(1e-3) for name, array in feeds().items()}
    after, _ = SPLIT.apply(fused)
    np.testing.assert_allclose(answers(fused, small)[0], answers(after, small)[0], rtol=1e-3)


def test_more_kernels_are_its_purpose() -> None:
    written = parse(
        f"(float[n,l,4] x, float[n,l,4] r) => (float[n,l,4] y) {{ s = Add(x, r) y = {NORM} }}",
        gamma=np.ones(4, np.float32), beta=np.zeros(4, np.float32),
    )  # fmt: skip
    recipe = "fuse_skip_layer_norm,split_skip_layer_norm"
    result = onnxpress.optimize(written, recipe=recipe, target="onnxruntime")
    assert result.model.op_counts() == {"Sum": 1, "LayerNormalization": 1}
