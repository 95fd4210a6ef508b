from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest

from onnxpress.model import Model
from onnxpress.passes.fuse_layer_norm import FuseLayerNorm
from onnxpress.shapes import Shapes
from onnxpress.verbs.calibrate import executed
from zoo.graphs import answers, apply, difference, openvino_answers, parse

FUSE = FuseLayerNorm()
X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
MEAN = "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) "
SQUARES = {"power": "q = Pow(d, two) ", "product": "q = Mul(d, d) "}
ROOT = "v = ReduceMean<axes=[2]>(q) e = Add(v, epsilon) r = Sqrt(e) "
QUOTIENTS = {"quotient": "n = Div(d, r) ", "reciprocal": "i = Reciprocal(r) n = Mul(i, d) "}
ENDS = {
    "affine": "g = Mul(n, gamma) y = Add(beta, g)",
    "scaled": "y = Mul(gamma, n)",
    "plain": "y = Identity(n)",
}


def model(body: str, opset: int = 17) -> Model:
    return parse(
        f"(float[n,3,4] x) => (float[n,3,4] y) {{ {body} }}", opset, 9, two=np.float32(2),
        row=np.float32([[[1, 2, 3, 4]]]), epsilon=np.float32(1e-3),
        gamma=np.float32([1, 2, 3, 4]), beta=np.float32([4, 3, 2, 1]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("square", "quotient", "end"), list(itertools.product(SQUARES, QUOTIENTS, ENDS))
)
def test_every_way_to_write_it(square: str, quotient: str, end: str) -> None:
    body = MEAN + SQUARES[square] + ROOT + QUOTIENTS[quotient] + ENDS[end]
    after, change = apply(FUSE, model(body), {"x": X})
    assert change.rewrites == 1, change.reasons
    (node,) = (n for n in after.nodes() if n.op_type != "Identity")
    assert node.op_type == "LayerNormalization"
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-3)


SCALE = "i = Reciprocal(r) s = Mul(i, row) a = Mul(x, s) "
SPREAD = {
    "negated": "k = Neg(m) l = Mul(k, s) y = Add(a, l)",
    "negated, with an addend": "k = Neg(m) l = Mul(k, s) b = Add(l, beta) y = Add(a, b)",
    "with an addend at the end": "k = Neg(m) l = Mul(k, s) b = Add(a, l) y = Add(b, beta)",
    "subtracted from the addend": "l = Mul(m, s) b = Sub(beta, l) y = Add(a, b)",
    "subtracted": "l = Mul(m, s) y = Sub(a, l)",
}


@pytest.mark.parametrize("spread", SPREAD)
def test_as_tensorflow_writes_it(spread: str) -> None:
    body = MEAN + SQUARES["product"] + ROOT + SCALE + SPREAD[spread]
    after, change = apply(FUSE, model(body), {"x": X})
    assert change.rewrites == 1, change.reasons
    (node,) = after.nodes()
    assert node.op_type == "LayerNormalization"
    plain = body.replace("s = Mul(i, row) ", "").replace(", s)", ", i)")
    assert apply(FUSE, model(plain), {"x": X})[1].rewrites == 1


def test_a_centred_value_computed_twice_is_the_same_one() -> None:
    body = (
        "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) c = Sub(x, m) q = Mul(c, c) "
        + ROOT + "n = Div(d, r) y = Mul(n, gamma)"
    )  # fmt: skip
    assert not apply(FUSE, model(body), {"x": X})[1].changed  # eliminate_common makes one of them


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("axes=[2]", "axes=[1]", "not over the last dimension alone"),
        ("axes=[2]", "axes=[1,2]", "not over the last dimension alone"),
        ("y = Add(beta, g)", "k = Relu(v) h = Add(beta, g) y = Add(h, k)", ""),
        ("d = Sub(x, m)", "d = Add(x, m)", ""),
        ("r = Sqrt(e)", "r = Exp(e)", ""),
    ],
)
def test_look_alikes_stay(old: str, new: str, why: str) -> None:
    body = MEAN + SQUARES["product"] + ROOT + QUOTIENTS["quotient"] + ENDS["affine"]
    assert old in body
    _, change = apply(FUSE, model(body.replace(old, new)), {"x": X})
    assert not change.changed
    assert not why or why in change.reasons[0]


def test_without_the_mean_it_needs_a_later_opset() -> None:
    body = "q = Mul(x, x) " + ROOT + "n = Div(x, r) y = Mul(n, gamma)"
    _, change = apply(FUSE, model(body), {"x": X})
    assert "it needs opset 23, the model has 17" in change.reasons[0]


@pytest.mark.parametrize(
    ("reader", "blocking", "why"),
    [
        ("z = Relu(d)", "z", "Relu reads one of its inner values"),
        ("z = Abs(v)", "z", "Abs reads one of its inner values"),
        ("", "z", "one of its inner values is an output of the graph"),
    ],
)
def test_others_that_read_a_part_are_told(reader: str, blocking: str, why: str) -> None:
    start = MEAN if reader else MEAN.replace("d =", "z =").replace("(d", "(z")
    body = start + SQUARES["product"] + ROOT + QUOTIENTS["quotient"] + ENDS["affine"]
    body = body if reader else body.replace("Mul(d, d)", "Mul(z, z)").replace("Div(d", "Div(z")
    after = parse(
        f"(float[n,3,4] x) => (float[n,3,4] y, float z) {{ {body} {reader} }}", 17, 9,
        two=np.float32(2), epsilon=np.float32(1e-3), gamma=np.float32([1, 2, 3, 4]),
        beta=np.float32([4, 3, 2, 1]),
    )  # fmt: skip
    change = FUSE.apply(after)[1]
    (missed,) = change.missed
    assert (missed.kind, missed.why, missed.blocking) == ("LayerNormalization", why, blocking)
    assert missed.nodes[0] == "y"
    assert len(missed.nodes) == 9


def test_what_reads_the_scaled_value_does_not_keep_the_rest() -> None:
    body = MEAN + SQUARES["product"] + ROOT + QUOTIENTS["quotient"]
    body += "g = Mul(n, gamma) h = Add(beta, g) y = Mul(g, h)"
    after, change = apply(FUSE, model(body), {"x": X})
    assert after.op_counts() == {"Add": 1, "LayerNormalization": 1, "Mul": 1}
    assert change.missed == ()


OWN = FuseLayerNorm(contrib=True)
RMS_ROOT = "v = ReduceMean<axes=[-1]>(q) e = Add(v, epsilon) r = Sqrt(e) "
RMS_QUOTIENTS = {
    "quotient": "n = Div(x, r) ",
    "reciprocal": "i = Reciprocal(r) n = Mul(i, x) ",
    "one by it": "i = Div(one, r) n = Mul(x, i) ",
}
RMS_ENDS = {"scaled": "y = Mul(gamma, n)", "plain": "y = Identity(n)"}


def rms(body: str, opset: int = 17, kind: str = "float", dtype: type = np.float32) -> Model:
    text = f"({kind}[n,3,4] x) => ({kind}[n,3,4] y) {{ {body} }}"
    numbers = {"two": np.float32(2), "epsilon": np.float32(1e-3), "one": np.float32(1)}
    return parse(text, opset, 11 if opset > 22 else 9, **numbers, gamma=dtype([1, 2, 3, 4]))


@pytest.mark.parametrize(
    ("square", "quotient", "end"),
    list(itertools.product(("q = Pow(x, two) ", "q = Mul(x, x) "), RMS_QUOTIENTS, RMS_ENDS)),
)
def test_without_the_mean(square: str, quotient: str, end: str) -> None:
    before = rms(square + RMS_ROOT + RMS_QUOTIENTS[quotient] + RMS_ENDS[end])
    after, change = apply(OWN, before, {"x": X}, known=False)
    assert change.rewrites == 1
    (node,) = (n for n in after.nodes() if n.op_type != "Identity")
    assert node.op_type == "SimplifiedLayerNormalization"
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-3)
    assert len(executed(after)) <= len(executed(before))
    shapes = Shapes(after.ir)
    assert str(shapes.shape(node.outputs[0])) == "(n, 3, 4)"
    assert shapes.dtype(node.outputs[0]) == ir.DataType.FLOAT


def test_the_standard_one_is_taken_where_there_is_one() -> None:
    body = "q = Mul(x, x) v = ReduceMean(q, last) e = Add(v, epsilon) r = Sqrt(e) n = Div(x, r) "
    after = parse(
        f"(float[n,3,4] x) => (float[n,3,4] y) {{ {body} y = Mul(n, gamma) }}", 23, 11,
        epsilon=np.float32(1e-3), gamma=np.float32([1, 2, 3, 4]), last=np.int64([-1]),
    )  # fmt: skip
    assert apply(OWN, after, {"x": X})[0].op_counts() == {"RMSNormalization": 1}


def test_onnxruntime_takes_the_other_one_at_opset_13() -> None:
    for quotient in QUOTIENTS.values():
        body = MEAN + SQUARES["power"] + ROOT + quotient + ENDS["affine"]
        _, change = apply(FUSE, model(body, 13), {"x": X})
        assert "it needs opset 17, the model has 13" in change.reasons[0]
        after, change = apply(OWN, model(body, 13), {"x": X}, known=False)
        assert after.op_counts() == {"LayerNormalization": 1}


def test_a_mean_of_float16_may_be_computed_in_float32() -> None:
    body = "w = Cast<to=1>(x) q = Mul(w, w) " + RMS_ROOT + "i = Reciprocal(r) n = Mul(w, i) "
    before = rms(body + "h = Cast<to=10>(n) y = Mul(gamma, h)", 17, "float16", np.float16)
    after, _ = OWN.apply(before)
    assert after.op_counts() == {"SimplifiedLayerNormalization": 1}
    feeds = {"x": X.astype(np.float16)}
    assert difference(answers(before, feeds), answers(after, feeds)) < 2e-3
    assert difference(answers(before, feeds), openvino_answers(after, feeds)) < 2e-3


def test_other_casts_are_no_part_of_it() -> None:
    body = "w = Cast<to=1>(x) q = Mul(w, w) " + RMS_ROOT + "i = Reciprocal(r) n = Mul(w, i) "
    before = rms(body + "h = Cast<to=11>(n) y = Mul(gamma, h)", 17, "double", np.float64)
    after, change = apply(OWN, before, known=False)
    assert change.rewrites == 1
    assert after.op_counts() == {"Cast": 2, "Mul": 1, "SimplifiedLayerNormalization": 1}
    whole = body + "h = Cast<to=6>(n) k = Mul(gamma, h) y = Identity(k)"
    assert OWN.apply(rms(whole, 17, "int32", np.int32))[0].op_counts()["Cast"] == 2
