from __future__ import annotations

import numpy as np
import pytest

from onnxpress.model import Model
from onnxpress.passes.fuse_bias_gelu import FuseBiasGelu
from onnxpress.passes.fuse_gelu import FuseGelu
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
