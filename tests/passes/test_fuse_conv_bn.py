from __future__ import annotations

import numpy as np
import pytest

from onnxpress.model import Model
from onnxpress.passes.fuse_conv_bn import FuseConvBn
from zoo.graphs import Array, answers, apply, difference, parse

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((2, 4, 8, 8)).astype(np.float32)
FUSE = FuseConvBn()


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def statistics(channels: int, suffix: str = "") -> dict[str, Array]:
    """γ, β, μ and σ² of a BatchNormalization, called g, h, m and v."""
    arrays = {name: normal(channels) for name in ("g", "h", "m", "v")}
    arrays["v"] = np.abs(arrays["v"]) + 0.1
    return {name + suffix: array for name, array in arrays.items()}


def conv(body: str, channels: int = 6, opset: int = 17, **constants: Array) -> Model:
    text = f"(float[N,4,8,8] x) => (float[a,b,c,d] y) {{ {body} }}"
    return parse(text, opset, **statistics(channels), **constants)


@pytest.mark.parametrize("opset", [9, 14, 15, 17])
@pytest.mark.parametrize("bias", [True, False])
def test_conv(bias: bool, opset: int) -> None:
    constants = {"w": normal(6, 4, 3, 3)} | ({"k": normal(6)} if bias else {})
    model = conv(
        f"""c = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w{", k" if bias else ""})
        y = BatchNormalization<epsilon=0.01>(c, g, h, m, v)""",
        opset=opset,
        **constants,
    )
    after, change = apply(FUSE, model, {"x": X})
    assert change.rewrites == 1
    assert after.op_counts() == {"Conv": 1}
    assert after.weight_bytes <= model.weight_bytes


@pytest.mark.parametrize("group", [1, 2, 4])
def test_group_convolutions(group: int) -> None:
    model = conv(
        f"c = Conv<group={group}>(x, w) y = BatchNormalization(c, g, h, m, v)",
        8,
        w=normal(8, 4 // group, 3, 3),
    )
    assert apply(FUSE, model, {"x": X})[0].op_counts() == {"Conv": 1}


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolutions(group: int, bias: bool) -> None:
    constants = {"w": normal(4, 8 // group, 3, 3)} | ({"k": normal(8)} if bias else {})
    model = conv(
        f"""c = ConvTranspose<group={group}>(x, w{", k" if bias else ""})
        y = BatchNormalization(c, g, h, m, v)""",
        8,
        **constants,
    )
    assert apply(FUSE, model, {"x": X})[0].op_counts() == {"ConvTranspose": 1}


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("shape", [None, (), (1,), (6,), (1, 6), (1, 1)])
def test_gemm(transposed: int, shape: tuple[int, ...] | None) -> None:
    constants, inputs = {"w": normal(6, 5) if transposed else normal(5, 6)}, "x, w"
    if shape is not None:
        inputs = "x, w, k"
        constants["k"] = normal(*shape) if shape else np.array(0.7, np.float32)
    model = parse(
        f"""(float[N,5] x) => (float[a,b] y)
        {{ c = Gemm<alpha=0.5, beta=2.0, transB={transposed}>({inputs})
           y = BatchNormalization(c, g, h, m, v) }}""",
        **statistics(6),
        **constants,
    )
    assert apply(FUSE, model, {"x": X[0, 0, :, :5]})[0].op_counts() == {"Gemm": 1}


def test_a_bias_per_row_stays() -> None:
    model = parse(
        """(float[3,5] x) => (float[a,b] y)
        { c = Gemm(x, w, k) y = BatchNormalization(c, g, h, m, v) }""",
        **statistics(6),
        w=normal(5, 6),
        k=normal(3, 1),
    )
    assert apply(FUSE, model)[1].reasons


def test_weights_as_constant_nodes() -> None:
    model = parse(
        """(float[N,2] x) => (float[N,2] y)
        { w = Constant<value = float[2,2] {1, 2, 3, 4}>() c = Gemm(x, w)
          y = BatchNormalization(c, g, h, m, v) }""",
        **statistics(2),
    )
    assert apply(FUSE, model, {"x": X[0, 0, :, :2]})[1].rewrites == 1


def test_two_normalisations_in_a_row() -> None:
    model = conv(
        """c = Conv(x, w) b = BatchNormalization(c, g, h, m, v)
        y = BatchNormalization(b, g2, h2, m2, v2)""",
        w=normal(6, 4, 3, 3),
        **statistics(6, "2"),
    )
    after, change = apply(FUSE, model, {"x": X})
    assert change.rewrites == 2
    assert after.op_counts() == {"Conv": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("c = Conv(x, w) b = BatchNormalization(c, g, h, m, v) y = Add(b, c)", "only reader"),
        ("c = Conv(x, w) n2 = Abs(v) y = BatchNormalization(c, g, h, m, n2)", "constant"),
        ("c = Conv(x, w) y = BatchNormalization(c, g, h, m, n)", "overflow"),
    ],
)
def test_refusals_say_why(body: str, reason: str) -> None:
    model = conv(body, w=normal(6, 4, 3, 3), n=np.full(6, -1, np.float32))
    after, change = FUSE.apply(model)
    assert after is model
    assert any(reason in refusal for refusal in change.reasons)


def test_a_conv_that_is_an_output_stays() -> None:
    model = parse(
        """(float[N,4,8,8] x) => (float[a,b,c1,d] c, float[e,f,g1,h1] y)
        { c = Conv(x, w) y = BatchNormalization(c, g, h, m, v) }""",
        **statistics(6),
        w=normal(6, 4, 3, 3),
    )
    assert "only reader" in apply(FUSE, model, {"x": X})[1].reasons[0]


def test_training_mode_stays() -> None:
    # onnxscript 0.7.2 fuses this one.
    model = conv(
        "c = Conv(x, w) y = BatchNormalization<training_mode=1>(c, g, h, m, v)",
        w=normal(6, 4, 3, 3),
    )
    assert "training" in FUSE.apply(model)[1].reasons[0]


def test_a_default_that_the_caller_may_override_stays() -> None:
    model = parse(
        """(float[N,1] x, float[1,1] w = {2}) => (float[N,1] y)
        { c = Gemm(x, w) y = BatchNormalization(c, g, h, m, v) }""",
        **statistics(1),
    )
    assert not apply(FUSE, model)[1].changed


def test_weights_that_another_node_reads_stay_as_they_are() -> None:
    model = parse(
        """(float[N,4,8,8] x) => (float[a,b,c1,d] y, float[e,f,g1,h1] z)
        { c = Conv(x, w) y = BatchNormalization(c, g, h, m, v) z = Conv(x, w) }""",
        **statistics(6),
        w=normal(6, 4, 3, 3),
    )
    assert "same weights" in apply(FUSE, model, {"x": X})[1].reasons[0]


def test_shared_weights_with_other_statistics_stay_as_they_are() -> None:
    model = parse(
        """(float[N,4,8,8] x) => (float[a,b,c1,d1] y, float[e,f,g1,h1] z)
        { c = Conv(x, w) y = BatchNormalization(c, g, h, m, v)
          d = Conv(x, w) z = BatchNormalization(d, g2, h2, m2, v2) }""",
        **statistics(6),
        **statistics(6, "2"),
        w=normal(6, 4, 3, 3),
    )
    assert not apply(FUSE, model, {"x": X})[1].changed


def test_twins_are_fused_into_twins() -> None:
    model = parse(
        """(float[N,4,8,8] x, float[N,4,8,8] x2) => (float[a,b,c1,d1] y, float[e,f,g1,h1] z)
        { c = Conv(x, w, k) y = BatchNormalization(c, g, h, m, v)
          d = Conv(x2, w, k) z = BatchNormalization(d, g, h, m, v) }""",
        **statistics(6),
        w=normal(6, 4, 3, 3),
        k=normal(6),
    )
    after, change = apply(FUSE, model, {"x": X, "x2": X + 1})
    assert change.rewrites == 2
    assert len(after.ir.graph.initializers) == 2


def test_shared_statistics_serve_two_convolutions() -> None:
    model = parse(
        """(float[N,4,8,8] x) => (float[a,b,c1,d1] y, float[e,f,g1,h1] z)
        { c = Conv(x, w) y = BatchNormalization(c, g, h, m, v)
          d = Conv(x, w2) z = BatchNormalization(d, g, h, m, v) }""",
        **statistics(6),
        w=normal(6, 4, 3, 3),
        w2=normal(6, 4, 3, 3),
    )
    assert apply(FUSE, model, {"x": X})[1].rewrites == 2


def test_in_a_branch() -> None:
    model = parse(
        """(float[N,4,8,8] x, bool q) => (float[N,6,6,6] y)
        { y = If(q)<then_branch = g1 () => (float[N,6,6,6] a)
                        { c = Conv(x, w) a = BatchNormalization(c, g, h, m, v) },
                    else_branch = h1 () => (float[N,6,6,6] b)
                        { d = Conv(x, w2) b = BatchNormalization(d, g, h, m, v) }> }""",
        **statistics(6),
        w=normal(6, 4, 3, 3),
        w2=normal(6, 4, 3, 3),
    )
    for condition in (True, False):
        assert apply(FUSE, model, {"x": X, "q": np.array(condition)})[1].rewrites == 2


def test_float16_stays_float16() -> None:
    model = parse(
        """(float16[N,4,8,8] x) => (float16[a,b,c1,d] y)
        { c = Conv(x, w) y = BatchNormalization(c, g, h, m, v) }""",
        **{name: array.astype(np.float16) for name, array in statistics(6).items()},
        w=normal(6, 4, 3, 3).astype(np.float16),
    )
    after, change = apply(FUSE, model)
    assert change.rewrites == 1
    feeds = {"x": X.astype(np.float16)}
    assert difference(answers(model, feeds), answers(after, feeds)) < 1e-2
