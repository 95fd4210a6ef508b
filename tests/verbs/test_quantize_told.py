"""What quantize tells of what stays float, whatever the reason, and of files that grew."""

from __future__ import annotations

import numpy as np
import pytest

import onnxpress
from onnxpress import api
from onnxpress.verbs.quantized import Quantized
from zoo.digits import Digits
from zoo.graphs import parse

pytestmark = pytest.mark.usefixtures("in_process")
PLAIN = {"calibrator": "minmax"}


def quantized(text: str, scheme: str = "static", **weights: np.ndarray) -> Quantized:
    samples = np.random.default_rng(0).standard_normal((40, 16, 16)).astype(np.float32)
    return api.quantize(parse(text, **weights), scheme=scheme, samples={"x": samples}, **PLAIN)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("y = MatMul(v, a)", "its constant is on the left"),
        ("p = Abs(a) q = MatMul(p, bad) y = Min(q, m)", "its weights are not finite"),
        (
            "m = ReduceMax<keepdims = 0>(a) z = Sub(m, m) c = Greater(m, z) "
            "y = If(c) <then_branch = g () => (float[n,16,16] t) { t = MatMul(a, v) }, "
            "else_branch = h () => (float[n,16,16] e) { e = Identity(a) }>",
            "it is in a subgraph",
        ),
    ],
)
def test_layers_that_stay(body: str, why: str) -> None:
    rng, square = np.random.default_rng(1), (16, 16)
    bad = np.where(np.arange(16) == 3, np.inf, rng.random(square)).astype(np.float32)
    result = quantized(
        f"(float[n,16,16] x) => (float[n,16,16] y) {{ a = MatMul(x, w)  {body} }}",
        w=rng.standard_normal(square).astype(np.float32),
        v=rng.standard_normal(square).astype(np.float32),
        **({"bad": bad, "m": np.array(9, np.float32)} if "bad" in body else {}),
    )
    (kept,) = result.to_dict()["kept_float"]  # type: ignore[misc]
    assert kept["why"] == why
    known = result.to_dict()["executed"]["int8_macs_share"]  # type: ignore[index]
    assert (known is None) == ("If" in body)


def test_tied_weights_are_quantised_on_both_sides() -> None:
    result = quantized(
        "(float[n,16,16] x) => (float[n,16,16] y) "
        "{ wide = MatMul(x, w)  turned = Transpose(w)  y = MatMul(wide, turned) }",
        w=np.random.default_rng(1).standard_normal((16, 20_000)).astype(np.float32),
    )
    assert not result.kept_float
    assert result.int8_macs_share == 1


def test_a_table_that_stays_float_beside_its_copy_is_told() -> None:
    model = parse(
        "(float[n,16] x) => (float[n,16] y) "
        "{ wide = MatMul(x, w)  turned = Transpose(w)  y = MatMul(wide, turned) }",
        w=np.random.default_rng(1).standard_normal((16, 20_000)).astype(np.float32),
    )
    samples = np.random.default_rng(0).random((80, 16)).astype(np.float32)
    result = api.quantize(model, scheme="static", samples=samples, exclude=("wide",), **PLAIN)
    assert result.kept_float == {"wide": "it was excluded"}
    assert "the file is larger than the float one" in result.warnings
    assert result.after_bytes > result.before_bytes


@pytest.mark.parametrize("excluded", [(), ("product",), ("MatMu[l]",)])
def test_a_bias_behind_a_product_runs_in_int8_with_it(excluded: tuple[str, ...]) -> None:
    """ONNX Runtime makes one float operator of a float bias and an int8 product."""
    rng = np.random.default_rng(1)
    model = parse(
        "(float[n,16] x) => (float[n,16] y) { p = MatMul(x, w)  h = Add(p, b)  y = Gemm(h, w, b) }",
        w=rng.standard_normal((16, 16)).astype(np.float32),
        b=rng.standard_normal(16).astype(np.float32),
    )
    next(iter(model.ir.graph)).name = "product"
    samples = rng.random((160, 16)).astype(np.float32)
    result = api.quantize(model, scheme="static", samples=samples, exclude=excluded, **PLAIN)
    assert result.kept_float == ({"h": "it was excluded"} if excluded else {})
    assert result.int8_macs_share == (0.5 if excluded else 1)


def test_of_an_operator_that_the_scheme_is_not_about(digits: Digits) -> None:
    kept = api.quantize(digits.onnx, scheme="dynamic", samples=digits.samples, limit=200).kept_float
    assert set(kept.values()) == {"scheme dynamic is not about Conv"}
    assert len(kept) == onnxpress.load(digits.onnx).op_counts()["Conv"]


def test_weights_that_are_transposed_as_the_model_runs() -> None:
    result = quantized(
        "(float[n,16,16] x) => (float[n,16,16] y, float[a,b] z) "
        "{ wide = MatMul(x, w)  turned = Transpose(w)  y = MatMul(wide, turned)  z = Abs(turned) }",
        w=np.random.default_rng(1).standard_normal((16, 20_000)).astype(np.float32),
    )
    assert result.kept_float == {"y": "its weights are transposed as the model runs"}
