"""float16 and bfloat16: what is converted, what stays and why, and that answers stay right."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import zoo
from onnxpress.calibrator import Range
from onnxpress.model import Model, load
from onnxpress.passes.inline_functions import InlineFunctions
from onnxpress.passes.to_bfloat16 import ToBfloat16
from onnxpress.passes.to_float16 import RANGES, ToFloat16
from onnxpress.passes.upgrade_opset import UpgradeOpset
from onnxpress.recipe import Change, Facts, Pass, Recipe
from onnxpress.shapes import Shapes
from onnxpress.values import all_values
from onnxpress.verbs.calibrate import gather
from zoo.graphs import Array, answers, openvino_answers, parse, serialized
from zoo.random_graphs import SIZES, RandomGraph
from zoo.random_steps import STEPS

Feeds = Mapping[str, Array]
RNG = np.random.default_rng(0)
HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def narrowed(source: Model, *feeds: Feeds, step: Pass | None = None) -> tuple[Model, Change]:
    """The model in half precision, with all that must hold of any such model checked."""
    step = ToFloat16() if step is None else step
    before = serialized(source)
    after, change = step.apply(source, gather(step, source, lambda: list(feeds)))
    assert serialized(source) == before
    if change.changed:
        onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
        again, second = step.apply(after)
        assert again is after
        assert not second.changed
        check_casts(after)
        if step.keeps_signature:
            assert after.signature == source.signature
    return after, change


def check_casts(model: Model) -> None:
    """No Cast there and back, none twice, none into what nothing reads."""
    casts = [node for node in model.nodes() if node.op_type == "Cast"]
    seen = [(node.inputs[0], node.attributes["to"].as_int()) for node in casts]
    assert len(set(seen)) == len(seen)
    for cast in casts:
        output, producer = cast.outputs[0], cast.inputs[0].producer()  # type: ignore[union-attr]
        assert output.uses() or output.is_graph_output()
        assert producer is None or producer.op_type != "Cast" or producer.inputs[0].dtype != FLOAT  # type: ignore[union-attr]


def both(model: Model, feeds: Feeds) -> list[list[Array]]:
    return [answers(model, feeds), openvino_answers(model, feeds)]


def engines(model: Model, feeds: Feeds) -> list[list[Array]]:
    """Of bfloat16 ONNX Runtime's CPU provider runs next to nothing."""
    return [openvino_answers(model, feeds)] if is_bfloat16(model) else both(model, feeds)


def is_bfloat16(model: Model) -> bool:
    return any(value.dtype == ir.DataType.BFLOAT16 for value in all_values(model.ir.graphs()))


def close(source: Model, after: Model, feeds: Feeds, share: float = 4e-3) -> None:
    expected = answers(source, feeds)
    share *= 8 if is_bfloat16(after) else 1
    for got in engines(after, feeds):
        for a, b in zip(expected, got, strict=True):
            assert np.isfinite(b).all()
            np.testing.assert_allclose(b, a, atol=share * float(np.abs(a).max()), rtol=0)


def types(model: Model, op: str) -> list[ir.DataType | None]:
    """The type of what each ``op`` makes."""
    shapes = Shapes(model.ir)
    return [shapes.dtype(node.outputs[0]) for node in model.nodes() if node.op_type == op]


def casts(model: Model) -> int:
    return model.op_counts().get("Cast", 0)


TWO = "(float[n,4] x) => (float[n,3] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"


class TestBorders:
    def test_one_cast_in_one_cast_out_and_weights_under_their_names(self) -> None:
        source, x = parse(TWO, w=normal(4, 5), v=normal(5, 3)), {"x": normal(9, 4)}
        after, change = narrowed(source, x)
        assert change == Change(3)
        assert casts(after) == 2
        assert {k: v.dtype for k, v in after.ir.graph.initializers.items()} == {
            "w": HALF,
            "v": HALF,
        }
        assert after.weight_bytes * 2 == source.weight_bytes
        close(source, after, x)

    def test_an_output_that_is_read_as_well(self) -> None:
        text = """(float[n,4] x) => (float[n,5] h, float[n,3] y, float[n,5] e)
            { h = MatMul(x, w) e = Exp(h) y = MatMul(h, v) }"""
        source, x = parse(text, w=normal(4, 5) * 2, v=normal(5, 3)), {"x": normal(9, 4)}
        after, change = narrowed(source, x)
        assert change.refusals == ("e: Exp: small errors become large",)
        assert casts(after) == 3, "x, h for its reader and the output, y"
        close(source, after, x, 0.3)

    def test_weights_that_both_read_are_there_twice(self) -> None:
        text = """(float[n,4] x) => (float[n,4] y, float z)
            { y = MatMul(x, w) z = ReduceProd<keepdims=0>(w) }"""
        source, x = parse(text, w=normal(4, 4)), {"x": normal(9, 4)}
        after, change = narrowed(source, x)
        assert change.refusals == ("z: ReduceProd: rounding errors add up along an axis",)
        assert sorted(v.dtype for v in after.ir.graph.initializers.values()) == [FLOAT, HALF]
        close(source, after, x)

    def test_shared_weights_stay_shared(self) -> None:
        text = "(float[n,4] x) => (float[n,4] y) { h = MatMul(x, w) y = MatMul(h, w) }"
        after, _ = narrowed(parse(text, w=normal(4, 4)), {"x": normal(9, 4)})
        assert list(after.ir.graph.initializers) == ["w"]

    def test_nothing_but_casts_to_gain(self) -> None:
        text = """(float[n,4] x) => (float[n,4] y)
            { a = Relu(x) b = Tanh(a) y = Transpose<perm=[0,1]>(b) }"""
        source = parse(text)
        after, change = narrowed(source, {"x": normal(2, 4)})
        assert after is source
        assert not change.changed

    def test_no_island_between_operators_that_stay(self) -> None:
        text = """(float[n,4] x) => (float[n,3] y) {
            h = MatMul(x, w) p = CumSum(h, axis) q = Relu(p) t = Transpose<perm=[0,1]>(q)
            r = CumSum(t, axis) y = MatMul(r, v) }"""
        weights = {"w": normal(4, 5), "v": normal(5, 3), "axis": np.array(1)}
        source, x = parse(text, **weights), {"x": normal(9, 4)}
        after, change = narrowed(source, x)
        assert change.rewrites == 2
        assert types(after, "Relu") == types(after, "Transpose") == [FLOAT]
        assert casts(after) == 4
        close(source, after, x)

    def test_a_cast_that_was_there_goes_to_half_at_once(self) -> None:
        text = """(float[n,4] x, bool[n,4] m) => (float[n,3] y)
            { f = Cast<to=1>(m) a = Mul(x, f) y = MatMul(a, v) }"""
        source = parse(text, v=normal(4, 3))
        feeds = {"x": normal(9, 4), "m": RNG.random((9, 4)) > 0.5}
        after, _ = narrowed(source, feeds)
        assert types(after, "Cast").count(HALF) == 2
        assert casts(after) == 3
        close(source, after, feeds)

    def test_inputs_and_outputs_too(self) -> None:
        source, x = parse(TWO, w=normal(4, 5), v=normal(5, 3)), {"x": normal(9, 4)}
        after, _ = narrowed(source, x, step=ToFloat16(keep_io=False))
        assert [spec.dtype for spec in after.signature.inputs] == ["float16"]
        assert [spec.dtype for spec in after.signature.outputs] == ["float16"]
        assert casts(after) == 0
        [got] = answers(after, {"x": x["x"].astype(np.float16)})
        assert got.dtype == np.float16
        np.testing.assert_allclose(got, answers(source, x)[0], atol=0.05)
        assert Recipe.parse("to_float16(keep_io=False)").passes == (ToFloat16(keep_io=False),)

    def test_excluded(self) -> None:
        source, x = parse(TWO, w=normal(4, 5), v=normal(5, 3)), {"x": normal(9, 4)}
        after, change = narrowed(source, x, step=ToFloat16(exclude=("h",)))
        assert change.refusals == ("h: excluded",)
        assert types(after, "MatMul") == [FLOAT, HALF]

    def test_weights_on_disk(self, external: None, tmp_path: Path) -> None:
        source = parse(TWO, w=normal(4, 500), v=normal(500, 3))
        x = {"x": normal(9, 4)}
        path = source.clone().save(tmp_path / "float.onnx")
        after, _ = narrowed(load(path), x)
        written = load(after.clone().save(path))
        assert written.weight_bytes * 2 == source.weight_bytes
        assert isinstance(written.ir.graph.initializers["w"].const_value, ir.ExternalTensor)
        expected = answers(source, x)[0]
        [got] = answers(after, x)
        np.testing.assert_allclose(got, expected, atol=4e-3 * np.abs(expected).max())


class TestOverflow:
    def test_planted(self) -> None:
        text = """(float[n,4] x) => (float[n,3] y) {
            h = MatMul(x, w) big = MatMul(h, u) n = LayerNormalization(big, g) y = MatMul(n, v) }"""
        weights = {"w": normal(4, 5), "u": normal(5, 5) * 5e4, "v": normal(5, 3), "g": normal(5)}
        source, x = parse(text, **weights), {"x": normal(9, 4)}
        after, change = narrowed(source, x)
        assert types(after, "MatMul") == [HALF, FLOAT, HALF]
        assert [reason.split(": ")[0] for reason in change.refusals] == ["big", "n"]
        assert "reaches ±" in change.refusals[1]
        close(source, after, x)
        blind, _ = ToFloat16().apply(source, Facts({RANGES: {"x": Range(-4, 4)}}))
        assert not np.isfinite(answers(blind, x)[0]).all(), "without what was seen it overflows"

    def test_sums_that_overflow_before_the_division(self) -> None:
        text = """(float[n,512] x) => (float[n,3] y) {
            h = MatMul(x, w) m = ReduceMean<axes=[1],keepdims=1>(h) d = Sub(h, m)
            y = MatMul(d, v) }"""
        source = parse(text, w=normal(512, 512) * 10, v=normal(512, 3))
        x = {"x": normal(9, 512) + 2}
        after, change = narrowed(source, x)
        assert types(after, "ReduceMean") == [FLOAT]
        assert change.refusals[0].startswith("m: ReduceMean: adds up 512 numbers of up to")
        close(source, after, x)
        small, _ = narrowed(source, {"x": x["x"] / 100})
        assert types(small, "ReduceMean") == [HALF]

    @pytest.mark.parametrize("epsilon", [1e-12, 1e-5])
    def test_epsilons_that_vanish(self, epsilon: float) -> None:
        text = """(float[n,8] x) => (float[n,3] y) {
            h = MatMul(x, w) s = Mul(h, h) m = ReduceMean<axes=[1],keepdims=1>(s) e = Add(m, eps)
            r = Sqrt(e) d = Div(h, r) y = MatMul(d, v) }"""
        source = parse(text, w=normal(8, 8), v=normal(8, 3), eps=np.float32(epsilon))
        x = {"x": normal(9, 8)}
        x["x"][0] = 0
        after, change = narrowed(source, x)
        assert f"e: eps is at most ±{epsilon:.4g}" in change.refusals
        assert ("d: r may become 0" in change.refusals) == (epsilon == 1e-12)
        assert types(after, "MatMul") == [HALF, HALF]
        close(source, after, x)

    def test_the_bounds_of_clip_may_be_no_bounds(self) -> None:
        text = """(float[n,4] x) => (float[n,3] y)
            { h = MatMul(x, w) c = Clip(h, low, high) y = MatMul(c, v) }"""
        most = np.finfo(np.float32).max
        source = parse(text, w=normal(4, 5), v=normal(5, 3), low=np.float32(0), high=most)
        x = {"x": normal(9, 4)}
        after, change = narrowed(source, x)
        assert change == Change(3)
        high = after.ir.graph.initializers["high"].const_value
        assert high is not None
        assert high.numpy() == 65504
        close(source, after, x)

    def test_infinite_paddings(self) -> None:
        text = """(float[n,2,8,8] x) => (float[n,3,6,6] y) {
            p = Pad(x, pads, low) m = MaxPool<kernel_shape=[3,3]>(p) y = Conv(m, w) }"""
        pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
        source = parse(text, w=normal(3, 2, 3, 3), pads=pads, low=np.float32(-np.inf))
        x = {"x": normal(2, 2, 8, 8)}
        after, _ = narrowed(source, x)
        assert types(after, "Conv") == [HALF]
        close(source, after, x)


class TestWholeNumbers:
    def test_positions_and_angles_stay(self) -> None:
        text = """(float[1,n,4] x, int64[1,n] ids) => (float[1,n,4] y) {
            f = Cast<to=1>(ids) c = Unsqueeze(f, last) a = MatMul(c, freq) s = Sin(a)
            h = MatMul(x, w) r = Mul(h, s) y = MatMul(r, w) }"""
        weights = {"w": normal(4, 4), "freq": np.array([[1, 0.1, 0.01, 0.001]], np.float32)}
        source = parse(text, last=np.array([2]), **weights)
        feeds = {"x": normal(1, 9, 4), "ids": np.arange(5000, 5009)[None]}
        after, change = narrowed(source, feeds)
        assert types(after, "Sin") == [FLOAT]
        assert types(after, "Mul") == [HALF]
        assert change.rewrites == 3
        close(source, after, feeds)
        also, _ = narrowed(source, feeds, step=ToBfloat16())
        assert types(also, "Sin") == [FLOAT]

    def test_what_becomes_an_index(self) -> None:
        text = """(float[n,4] x, float[4000,4] table) => (float[n,2,4] y, float[n,3] z) {
            h = MatMul(x, w) s = Sigmoid(h) p = Mul(s, size) q = Add(p, half) i = Cast<to=7>(q)
            y = Gather(table, i) z = MatMul(s, v) }"""
        weights = {"w": normal(4, 2), "v": normal(2, 3), "size": np.float32(3999)}
        source = parse(text, half=np.float32(0.5), **weights)
        feeds = {"x": normal(9, 4), "table": normal(4000, 4)}
        after, _ = narrowed(source, feeds)
        assert types(after, "Mul") == types(after, "Add") == [FLOAT]
        assert types(after, "MatMul") == [HALF, HALF]

    def test_operators_without_a_half_form(self) -> None:
        text = """(float[1,n,4] x, float[1,k,n] scores) => (int64[m,3] y) {
            b = MatMul(x, w) s = Relu(scores) y = NonMaxSuppression(b, s, most) }"""
        source = parse(text, w=normal(4, 4), most=np.array([3]))
        feeds = {"x": normal(1, 5, 4), "scores": normal(1, 2, 5)}
        after, change = narrowed(source, feeds)
        assert change.refusals == ("y: NonMaxSuppression has no float16 form",)
        assert types(after, "MatMul") == [HALF]
        np.testing.assert_array_equal(answers(after, feeds)[0], answers(source, feeds)[0])

    def test_scales_of_resize_stay(self) -> None:
        text = "(float[n,2,4,4] x) => (float[n,3,8,8] y) { c = Conv(x, w) y = Resize(c, , scales) }"
        source = parse(text, w=normal(3, 2, 1, 1), scales=np.array([1, 1, 2, 2], np.float32))
        feeds = {"x": normal(2, 2, 4, 4)}
        after, _ = narrowed(source, feeds)
        assert types(after, "Resize") == [HALF]
        assert after.ir.graph.initializers["scales"].dtype == FLOAT
        close(source, after, feeds)


LOWEST = np.finfo(np.float32).min
MASKS = {
    "selected": "k = Not(pad) m = Where(k, zero, low)",
    "multiplied": "f = Cast<to=1>(pad) m = Mul(f, low)",
    "added twice": "f = Cast<to=1>(pad) a = Mul(f, low) m = Add(a, a)",
}
ATTENTION = """(float[n,l,8] x, bool[n,1,l] pad) => (float[n,l,8] y) {{
    {mask}
    q = MatMul(x, wq) k0 = MatMul(x, wk) t = Transpose<perm=[0,2,1]>(k0) s = MatMul(q, t)
    b = {join} p = Softmax<axis=-1>(b) v = MatMul(x, wv) o = MatMul(p, v) y = MatMul(o, wo) }}"""


def attention(mask: str, low: float, join: str = "Add(s, m)") -> Model:
    weights = {name: normal(8, 8) / 3 for name in ("wq", "wk", "wv", "wo")}
    text = ATTENTION.format(mask=mask, join=join)
    return parse(text, low=np.float32(low), zero=np.float32(0), **weights)


def padded(rows: int = 3, length: int = 6) -> Feeds:
    """Each row but the first has a little more padding; none is nothing but padding."""
    pad = np.arange(length)[None] >= length - np.arange(rows)[:, None]
    return {"x": normal(rows, length, 8), "pad": pad[:, None]}


class TestMasks:
    @pytest.mark.parametrize("step", [ToFloat16(), ToBfloat16()], ids=str)
    @pytest.mark.parametrize("mask", MASKS)
    @pytest.mark.parametrize("low", [LOWEST, -1e9, -1e4, -np.inf])
    def test_added(self, mask: str, low: float, step: Pass) -> None:
        if np.isinf(low) and mask != "selected":
            pytest.skip("0 · ∞")
        source, feeds = attention(MASKS[mask], low), padded()
        after, change = narrowed(source, feeds, step=step)
        assert not change.refusals
        assert FLOAT not in types(after, "Softmax")
        close(source, after, feeds)

    @pytest.mark.parametrize("step", [ToFloat16(), ToBfloat16()], ids=str)
    @pytest.mark.parametrize("low", [LOWEST, -1e9, -np.inf])
    def test_selected_scores(self, low: float, step: Pass) -> None:
        source, feeds = attention("k = Not(pad)", low, "Where(k, s, low)"), padded()
        after, change = narrowed(source, feeds, step=step)
        assert not change.refusals
        assert FLOAT not in types(after, "Softmax")
        close(source, after, feeds)

    @pytest.mark.parametrize("mask", MASKS)
    def test_that_no_sample_showed(self, mask: str) -> None:
        source, feeds = attention(MASKS[mask], LOWEST), padded()
        after, _ = narrowed(source, {**feeds, "pad": np.zeros_like(feeds["pad"])})
        close(source, after, feeds)

    def test_nothing_but_padding_gives_numbers(self) -> None:
        source, feeds = attention(MASKS["multiplied"], LOWEST), padded()
        nothing = {**feeds, "pad": np.ones_like(feeds["pad"])}
        after, _ = narrowed(source, feeds)
        assert np.isfinite(answers(source, nothing)[0]).all()
        for got in both(after, nothing):
            assert np.isfinite(got[0]).all()

    def test_given_by_the_caller(self) -> None:
        source, feeds = attention("m = Identity(given)", LOWEST), padded()
        proto = ir.to_proto(source.ir)
        shape = ["n", 1, "l"]
        proto.graph.input.append(helper.make_tensor_value_info("given", TensorProto.FLOAT, shape))
        source = Model(ir.from_proto(proto))
        feeds = {**feeds, "given": np.where(feeds["pad"], LOWEST, 0).astype(np.float32)}
        after, change = narrowed(source, feeds)
        assert not change.refusals
        close(source, after, feeds)

    def test_one_that_is_an_output_too_stays(self) -> None:
        source, feeds = attention(MASKS["multiplied"], LOWEST), padded()
        proto = ir.to_proto(source.ir)
        proto.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))
        source = Model(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))
        after, change = narrowed(source, feeds)
        assert types(after, "Softmax") == [FLOAT]
        assert change.refusals[0].startswith("b: m reaches ±3.4")
        assert set(types(after, "MatMul")) == {HALF}
        close(source, after, feeds)


LOOP = """(float[n,4] x, bool flag, int64 count) => (float[n,4] y) {
    h = MatMul(x, w)
    b = If (flag) <
        then_branch = yes () => (float[n,4] t) { a = MatMul(h, u) t = Add(a, h) },
        else_branch = no () => (float[n,4] e) { e = Mul(h, two) }>
    l = Loop (count, flag, b) <body = turn (int64 i, bool c, float[n,4] s) =>
        (bool again, float[n,4] z) { again = Identity(c) q = MatMul(s, u) z = Tanh(q) }>
    y = MatMul(l, w) }"""


class TestSubgraphs:
    @pytest.mark.parametrize("step", [ToFloat16(), ToBfloat16()], ids=str)
    @pytest.mark.parametrize("flag", [True, False])
    def test_branches_and_loops(self, step: Pass, flag: bool) -> None:
        weights = {"w": normal(4, 4) / 2, "u": normal(4, 4) / 2, "two": np.float32(2)}
        source = parse(LOOP, **weights)
        feeds = {"x": normal(9, 4), "flag": np.array(flag), "count": np.array(3)}
        after, change = narrowed(source, feeds, step=step)
        why = "what goes into its graphs and out of them keeps its type"
        assert change.refusals == (f"b: {why}", f"l: {why}")
        assert FLOAT not in types(after, "MatMul"), "in the branch and the body as well"
        assert len(types(after, "MatMul")) == 4
        close(source, after, feeds)

    def test_functions_are_inlined_first(self) -> None:
        text = """<ir_version: 8, opset_import: ["": 17, "own": 1]>
            g (float[n,4] x) => (float[n,4] y) <float[4,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}>
            { h = own.f(x) y = MatMul(h, w) }
            <opset_import: ["": 17], domain: "own"> f (a) => (b) { b = Neg(a) }"""
        source = Model(ir.from_onnx_text(text))
        facts = Facts({RANGES: {"x": Range(-4, 4)}})
        _, change = ToFloat16().apply(source, facts)
        assert change.refusals[0] == "h: the type of a value is unknown"
        inlined, _ = InlineFunctions().apply(source)
        after, change = narrowed(inlined, {"x": normal(2, 4)})
        assert not change.refusals
        assert types(after, "MatMul") == [HALF]


class TestDeclined:
    def test_what_is_half_already(self) -> None:
        text = "(float16[n,4] x) => (float[n,4] y) { y = Cast<to=1>(x) }"
        reason = "it has float16 values already: convert the float32 model"
        assert ToBfloat16().apply(parse(text))[1] == Change(0, (reason,))

    def test_float64(self) -> None:
        text = "(double[n,4] x) => (double[n,4] y) { y = MatMul(x, w) }"
        source = parse(text, w=normal(4, 4).astype(np.float64))
        reason = "it has no float32 values, but double"
        assert ToBfloat16().apply(source)[1] == Change(0, (reason,))

    def test_float64_beside_float32(self) -> None:
        text = """(double[n,4] x) => (double[n,4] y)
            { a = MatMul(x, d) f = Cast<to=1>(a) h = MatMul(f, w) y = Cast<to=11>(h) }"""
        source = parse(text, w=normal(4, 4), d=normal(4, 4).astype(np.float64))
        after, _ = narrowed(source, {"x": normal(9, 4).astype(np.float64)})
        assert types(after, "MatMul") == [ir.DataType.DOUBLE, HALF]
        assert casts(after) == 2, "the two that were there"

    def test_without_ranges_and_old_opsets(self) -> None:
        source = parse(TWO, w=normal(4, 5), v=normal(5, 3))
        assert ToFloat16().apply(source)[1] == Change(0, ("no ranges were observed",))
        old = parse(TWO, opset=12, w=normal(4, 5), v=normal(5, 3))
        assert ToBfloat16().apply(old)[1] == Change(0, ("bfloat16 needs opset 13",))
        after, change = narrowed(old, {"x": normal(2, 4)})
        assert change.changed
        assert casts(after) == 2

    def test_operators_of_others(self) -> None:
        text = "(float[n,4] x) => (float[n,4] y) { h = MatMul(x, w) o = own.f(h) y = MatMul(h, w) }"
        proto = ir.to_proto(parse(text, w=normal(4, 4)).ir)
        proto.graph.value_info.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, None))
        proto.opset_import.append(helper.make_opsetid("own", 1))
        _, change = ToBfloat16().apply(Model(ir.from_proto(proto)))
        assert change.refusals == ("o: f has no bfloat16 form",)
        assert change.rewrites == 2


class TestQuantised:
    def test_int8_activations_stay_beside_float32(self, zoo_model: Callable[[str], Path]) -> None:
        source = load(zoo_model("cnn"))
        feeds = zoo.feeds(source.signature, 3)
        recipe = Recipe.parse("quantize_static")
        int8, _ = recipe.apply(source, gather(recipe, source, lambda: [feeds]))
        after, _ = narrowed(int8, feeds)
        assert set(types(after, "Conv")) == {FLOAT}

    @pytest.mark.parametrize("form", ["MatMulNBits", "DequantizeLinear"])
    def test_weights_in_blocks_have_half_scales(self, form: str) -> None:
        text = (
            "(float[n,64] x) => (float[n,64] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, w) }"
        )
        source = parse(text, opset=21, ir_version=10, w=normal(64, 64))
        feeds = {"x": normal(9, 64)}
        recipe = Recipe.parse(f"quantize_blockwise(form={form}),to_float16")
        after, change = recipe.apply(source, gather(recipe, source, lambda: [feeds]))
        assert change.rewrites == (5 if form == "MatMulNBits" else 7)
        assert types(after, form)[0] == HALF
        blocks, _ = Recipe(recipe.passes[:1]).apply(source)
        close(blocks, after, feeds, 0.02)


class TestContrib:
    """ONNX Runtime's own operators, as ``optimize --target onnxruntime`` writes them."""

    @pytest.mark.parametrize("name", ["transformer", "transformer_torchscript"])
    def test_fused_transformers(self, name: str, zoo_model: Callable[[str], Path]) -> None:
        from onnxpress.verbs.optimize import RECIPES, optimize

        source = load(zoo_model(name))
        fused = optimize(source, None, Recipe.parse(RECIPES["onnxruntime"])).model
        feeds = zoo.feeds(source.signature, 3)
        after, change = narrowed(fused, feeds)
        kinds = {node.op_type: node.outputs[0].dtype for node in after.nodes() if node.domain}
        assert set(kinds.values()) <= {HALF, None}
        assert "MultiHeadAttention" in kinds or "Attention" in kinds
        assert change.changed
        expected = answers(source, feeds)[0]
        for got in both(after, feeds):
            np.testing.assert_allclose(got[0], expected, atol=0.01 * np.abs(expected).max())

    def test_the_list_is_onnx_runtimes(self) -> None:
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime

        from onnxpress.passes import _half_slots as slots

        halves: dict[str, set[str]] = {}
        for kernel in runtime.get_all_operator_schema():
            if kernel.domain == "com.microsoft" or kernel.name in slots.UNDECLARED:
                found = {kind for c in kernel.type_constraints for kind in c.allowed_type_strs}
                halves[kernel.name] = {"tensor(float16)", "tensor(bfloat16)"} & found
        for name in slots.CONTRIB_OPERATORS:
            assert len(halves[name]) == 2, name
        for name in slots.FLOAT16_CONTRIB:
            assert "tensor(float16)" in halves[name], name


@pytest.mark.parametrize("step", [ToFloat16(), ToBfloat16()], ids=str)
@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo(name: str, step: Pass, zoo_model: Callable[[str], Path]) -> None:
    source = load(zoo_model(name))
    feeds = zoo.feeds(source.signature, 3)
    if isinstance(step, ToBfloat16):
        source, _ = UpgradeOpset(to=22).apply(source)
    after, change = narrowed(source, feeds, step=step)
    assert change.changed
    assert after.weight_bytes < 0.75 * source.weight_bytes
    least = 0.9999 if isinstance(step, ToFloat16) else 0.999
    for got in engines(after, feeds):
        for a, b in zip(answers(source, feeds), got, strict=True):
            cosine = np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
            assert cosine > least


# Shrinking what fails takes minutes.
@settings(max_examples=40, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(st.randoms(use_true_random=False), st.integers(2, 20), st.sampled_from([13, 17, 18, 21]))
def test_any_graph(chance: random.Random, nodes: int, opset: int) -> None:
    graph = RandomGraph(chance, STEPS, nodes, opset, TensorProto.FLOAT)
    source, feeds = graph.model(), [graph.feeds(sizes) for sizes in SIZES]
    step = ToFloat16()
    runs, nudged = [], []
    for one in feeds:
        off = {name: (a * 1.0005).astype(a.dtype) for name, a in one.items()}
        try:
            runs.append(answers(source, one))
            nudged.append(answers(source, off))
            facts = gather(step, source, lambda: feeds)
        except Exception:  # noqa: BLE001  # ONNX Runtime has not every operator
            return
    after, change = step.apply(source, facts)
    if not change.changed:
        return
    # What cancels leaves the rounding of what it was made of.
    seen = facts.ranges[RANGES].values()
    largest = max(max(-span.low, span.high) for span in seen)
    assert after.signature == source.signature
    onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
    for one, expected, moved in zip(feeds, runs, nudged, strict=True):
        for a, b, c in zip(expected, answers(after, one), moved, strict=True):
            known = np.isfinite(a) & np.isfinite(c)
            if a.dtype == np.float32 and known.any():
                bound = 2e-2 * np.abs(a[known]).max() + 30 * np.abs(a[known] - c[known]).max()
                assert np.abs(a[known] - b[known]).max() <= bound + 2e-2 * largest
