from __future__ import annotations

import numpy as np
import pytest

from onnxpress.model import Model
from onnxpress.passes.fuse_bias_gelu import FuseBiasGelu
from onnxpress.passes.fuse_gelu import FuseGelu
from onnxpress.verbs.calibrate import executed
from zoo.graphs import apply, parse

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
NUMBERS = {
    "half": np.float32(0.5), "one": np.float32(1), "three": np.float32(3),
    "root2": np.float32(2**0.5), "inverse": np.float32(0.5**0.5), "cubic": np.float32(0.044715),
    "slope": np.float32((2 / np.pi) ** 0.5), "b": np.arange(4, dtype=np.float32),
}  # fmt: skip
ERF = "d = Div(x, root2) e = Erf(d) f = Add(e, one) "
TANH = (
    "c = Pow(x, three) k = Mul(c, cubic) a = Add(x, k) i = Mul(a, slope) e = Tanh(i) "
    "f = Add(one, e) "
)
ERFC = "n = Neg(x) d = Mul(n, inverse) e = Erf(d) f = Sub(one, e) "
WAYS = {
    "half last": "g = Mul(x, f) y = Mul(g, half)",
    "half first": "h = Mul(half, x) y = Mul(h, f)",
    "half in the middle": "h = Mul(f, half) y = Mul(h, x)",
}


def model(body: str, opset: int = 20) -> Model:
    return parse(f"(float[n,4] x) => (float[n,4] y) {{ {body} }}", opset, 9, **NUMBERS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("bell", "kind"),
    [
        (ERF, "none"),
        (ERFC, "none"),
        (ERFC.replace("Mul(n, inverse)", "Div(n, root2)"), "none"),
        (ERF.replace("Div(x, root2)", "Mul(inverse, x)"), "none"),
        (TANH, "tanh"),
    ],
)
def test_every_way_to_write_it(bell: str, kind: str, way: str) -> None:
    after, change = apply(FuseGelu(), model(bell + WAYS[way]), {"x": X})
    (node,) = after.nodes()
    assert change.rewrites == 1
    assert node.op_type == "Gelu"
    assert node.attributes["approximate"].as_string() == kind


@pytest.mark.parametrize(
    "body",
    [
        ERF.replace("root2", "three") + WAYS["half last"],
        ERF.replace("one", "half") + WAYS["half last"],
        ERF + "g = Mul(x, f) z = Mul(g, half) y = Add(z, e)",
    ],
)
def test_look_alikes_stay(body: str) -> None:
    assert not apply(FuseGelu(), model(body), {"x": X})[1].changed


def test_older_opsets_have_no_such_operator() -> None:
    _, change = apply(FuseGelu(), model(ERF + WAYS["half last"], 17), {"x": X})
    assert change.reasons == ("no Gelu at 'y': it needs opset 20, the model has 17",)


@pytest.mark.parametrize(("kind", "op"), [("none", "BiasGelu"), ("tanh", "FastGelu")])
def test_a_bias_before_it(kind: str, op: str) -> None:
    body = f'a = Add(b, x) y = Gelu<approximate="{kind}">(a)'
    after, _ = apply(FuseBiasGelu(), model(body), {"x": X})
    assert after.op_counts() == {f"com.microsoft::{op}": 1}
    shared = f'a = Add(b, x) g = Gelu<approximate="{kind}">(a) y = Add(a, g)'
    assert not apply(FuseBiasGelu(), model(shared), {"x": X})[1].changed


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bell", [ERF, TANH])
def test_others_that_read_a_part_are_told(bell: str, way: str) -> None:
    graph = f"(float[n,4] x) => (float[n,4] y, float[n,4] z) {{ {bell} {WAYS[way]} z = Relu(f) }}"
    change = FuseGelu().apply(parse(graph, 20, 9, **NUMBERS))[1]
    (missed,) = change.missed
    assert (missed.kind, missed.nodes[0], missed.blocking) == ("Gelu", "y", "z")
    assert missed.why == "Relu reads one of its inner values"


OWN = FuseGelu(contrib=True)


@pytest.mark.parametrize(("bell", "op"), [(ERF, "Gelu"), (TANH, "FastGelu")])
@pytest.mark.parametrize("opset", [13, 19])
def test_onnxruntime_has_its_own_at_any_opset(bell: str, op: str, opset: int) -> None:
    for way in WAYS.values():
        before = model(bell + way, opset)
        after, change = apply(OWN, before, {"x": X}, known=False)
        assert change.rewrites == 1
        assert after.op_counts() == {f"com.microsoft::{op}": 1}
        assert len(executed(after)) <= len(executed(before))


def test_the_standard_one_is_taken_where_there_is_one() -> None:
    after, _ = apply(OWN, model(ERF + WAYS["half last"], 20), {"x": X})
    assert after.op_counts() == {"Gelu": 1}


@pytest.mark.parametrize(
    ("body", "alpha"),
    [
        ("s = Sigmoid(x) y = Mul(x, s)", 1.0),
        ("s = Sigmoid(x) y = Mul(s, x)", 1.0),
        ("a = Mul(inverse, x) s = Sigmoid(a) y = Mul(s, x)", 0.5**0.5),
    ],
)
def test_by_sigmoid(body: str, alpha: float) -> None:
    after, _ = apply(OWN, model(body), {"x": X}, known=False)
    (node,) = after.nodes()
    assert (node.domain, node.op_type) == ("com.microsoft", "QuickGelu")
    assert node.attributes["alpha"].as_float() == pytest.approx(alpha)
    assert not apply(FuseGelu(), model(body), {"x": X})[1].changed


def test_a_sigmoid_of_something_else_stays() -> None:
    for body in (
        "a = Mul(x, b) s = Sigmoid(a) y = Mul(x, s)",
        "a = Neg(x) s = Sigmoid(a) y = Mul(x, s)",
    ):
        assert not apply(OWN, model(body), {"x": X})[1].changed


@pytest.mark.parametrize(
    ("body", "op"),
    [(ERF + WAYS["half last"], "Gelu"), ("s = Sigmoid(x) y = Mul(x, s)", "QuickGelu")],
)
def test_a_type_without_a_kernel_is_told(body: str, op: str) -> None:
    wide = {name: number.astype(np.float64) for name, number in NUMBERS.items()}
    double = parse(f"(double[n,4] x) => (double[n,4] y) {{ {body} }}", 17, 9, **wide)
    (missed,) = OWN.apply(double)[1].missed
    assert missed.why == f"{op} does not compute in double"


@pytest.mark.parametrize(("bell", "op"), [(ERF, "BiasGelu"), (TANH, "FastGelu")])
def test_a_bias_before_its_own(bell: str, op: str) -> None:
    body = "a = Add(b, x) " + bell.replace("x", "a") + WAYS["half last"].replace("x", "a")
    body = body.replace("a = Add(a", "i_ = Add(a").replace("Mul(a, slope)", "Mul(i_, slope)")
    once, _ = apply(OWN, model(body, 17), {"x": X}, known=False)
    after, _ = apply(FuseBiasGelu(), once, {"x": X}, known=False)
    assert after.op_counts() == {f"com.microsoft::{op}": 1}


def test_a_bias_that_widens_stays() -> None:
    wide = parse(
        "(float[n,1] x) => (float[n,4] y) { a = Add(b, x) y = Gelu(a) }", 20, 9, b=NUMBERS["b"]
    )
    assert not apply(FuseBiasGelu(), wide, {"x": X[:, :1]})[1].changed
