"""Sums of embeddings, in every way that they are written, and what only looks like one."""

from __future__ import annotations

import itertools
import re

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.fuse_embed_layer_norm import FuseEmbedLayerNorm
from onnxpress.passes.fuse_skip_layer_norm import FuseSkipLayerNorm
from onnxpress.recipe import Recipe
from onnxpress.verbs.calibrate import executed
from onnxpress.verbs.domains import domains
from onnxpress.verbs.optimize import RECIPES
from zoo.disguise import disguise
from zoo.graphs import answers, apply, difference, openvino_answers, parse

FUSE = FuseEmbedLayerNorm()
ROWS, SIZE = 6, 4
WORDS = "x = Gather(words, ids) "
KINDS = "t = Gather(kinds, types) "
LENGTH = "c = Shape<start=1, end=2>(ids) "
RANGE = LENGTH + "q = Squeeze(c) r = Range(zero, q, one) "
PLACES = {
    "a range": RANGE + "i = Unsqueeze(r, first) p = Gather(places, i)",
    "a range of one dimension": RANGE + "p = Gather(places, r)",
    "a range of each row": RANGE
    + "f = Shape(ids) e = Expand(r, f) p = Gather(places, e)",
    "a part of all positions": LENGTH
    + "i = Slice(all, first, c, second, second) p = Gather(places, i)",
    "a part of the table": LENGTH + "p = Slice(places, first, c, first, second)",
    "a part of a table for batches": LENGTH + "p = Slice(wide, first, c, second, second)",
    "a part that is unsqueezed": LENGTH
    + "o = Slice(places, first, c, first, second) p = Unsqueeze(o, first)",
}  # fmt: skip
SHIFTED = RANGE + "j = Add(r, one) i = Unsqueeze(j, first) p = Gather(places, i)"
COMPUTED = (
    "k = Equal(ids, one) v = Not(k) o = Cast<to=6>(v) a = CumSum(o, one) m = Mul(a, o) "
    "w = Cast<to=7>(m) i = Add(w, one) p = Gather(places, i)"
)
SUMS = {
    "words first": "s = Add(x, t) z = Add(s, p)",
    "positions first": "s = Add(p, x) z = Add(t, s)",
    "segments and positions": "s = Add(t, p) z = Add(x, s)",
    "one sum": "z = Sum(t, x, p)",
}
PLAIN = WORDS + PLACES["a part of all positions"] + " "
NORM = " y = LayerNormalization<axis=-1, epsilon=0.001>(z, gamma, beta)"


def model(body: str, given: str = "int64[n,l] ids, int64[n,l] types", **more: np.ndarray) -> Model:
    rng = np.random.default_rng(0)
    tables = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {
            "words": (10, SIZE), "places": (ROWS, SIZE), "wide": (1, ROWS, SIZE),
            "kinds": (2, SIZE), "gamma": (SIZE,), "beta": (SIZE,), "row": (1, 1, SIZE),
        }.items()
    }  # fmt: skip
    numbers = {
        "zero": np.int64(0), "one": np.int64(1), "first": np.int64([0]), "second": np.int64([1]),
        "all": np.arange(ROWS)[None],
    }  # fmt: skip
    everything = {**tables, **numbers, **more}
    words = re.findall(r"\w+", body)
    used = {name: array for name, array in everything.items() if name in words}
    return parse(f"({given}) => (float[n,l,{SIZE}] y) {{ {body} }}", 17, 8, **used)


def feeds(batch: int = 2, length: int = 3, kind: type = np.int64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    return {
        "ids": rng.integers(0, 10, (batch, length)).astype(kind),
        "types": rng.integers(0, 2, (batch, length)).astype(kind),
    }


def fused(after: Model) -> ir.Node:
    (node,) = (n for n in after.nodes() if n.op_type == "EmbedLayerNormalization")
    return node


def test_every_way_to_write_it() -> None:
    for place, total in itertools.product(PLACES, SUMS):
        body = WORDS + KINDS + PLACES[place] + " " + SUMS[total] + NORM
        after, change = apply(FUSE, model(body), feeds())
        assert change.rewrites == 1, (place, total, change.reasons)
        node = fused(after)
        assert len(node.inputs) == 7, (place, total)
        assert node.inputs[2].const_value.shape.numpy() == (10, SIZE)
        assert node.inputs[4].const_value.shape.numpy() == (2, SIZE)
        assert node.attributes["epsilon"].as_float() == pytest.approx(1e-3)
        assert after.op_counts() == {"Cast": 2, "com.microsoft::EmbedLayerNormalization": 1}


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([*PLACES.values(), SHIFTED, COMPUTED]),
    st.integers(0, 3), st.integers(0, 4), st.booleans(),
)  # fmt: skip
def test_any_size(places: str, batch: int, length: int, segments: bool) -> None:
    total = "s = Add(x, t) z = Add(s, p)" if segments else "s = Add(p, row) z = Add(x, s)"
    before = model(f"{WORDS}{KINDS if segments else ''}{places} {total}{NORM}")
    after, change = FUSE.apply(before)
    assert change.rewrites == 1, change.reasons
    expected, got = (answers(each, feeds(batch, length))[0] for each in (before, after))
    assert got.shape == expected.shape == (batch, length, SIZE)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_name_and_no_order_matters(seed: int) -> None:
    body = WORDS + KINDS + PLACES["a part of all positions"] + " " + SUMS["words first"] + NORM
    other = Model(ir.from_proto(disguise(ir.to_proto(model(body).ir), seed)))
    after, change = FUSE.apply(other)
    assert change.rewrites == 1
    assert after.op_counts()["com.microsoft::EmbedLayerNormalization"] == 1


def test_positions_that_are_computed_are_given_as_int32() -> None:
    body = WORDS + KINDS + COMPUTED + " " + SUMS["words first"] + NORM
    after, _ = apply(FUSE, model(body), feeds())
    node = fused(after)
    assert len(node.inputs) == 9
    # What was int32 before it became int64 is added as int32.
    assert node.inputs[8].producer().inputs[0].producer().op_type == "Mul"
    assert after.op_counts()["Cast"] == 3  # of ids, of segments, and what the graph had: of a mask


def test_positions_may_be_given() -> None:
    body = WORDS + "p = Gather(places, at) z = Add(x, p)" + NORM
    given = "int64[n,l] ids, int32[1,l] at"
    inputs = {"ids": feeds()["ids"], "at": np.int32([[5, 0, 2]])}
    after, change = apply(FUSE, model(body, given), inputs)
    assert change.rewrites == 1
    assert fused(after).inputs[8].name == "at"
    assert domains(after).feeds(after.signature, 2, 0)["at"].max() < ROWS


def test_ids_that_are_read_twice_are_cast_once() -> None:
    body = WORDS + "t = Gather(kinds, ids) " + PLACES["a range"] + " z = Sum(x, t, p)" + NORM
    after, _ = apply(FUSE, model(body), {"ids": np.int64([[0, 1, 1]]), "types": feeds(1)["types"]})
    assert after.op_counts()["Cast"] == 1


def test_int32_needs_no_cast() -> None:
    body = WORDS + KINDS + PLACES["a part of all positions"] + " " + SUMS["words first"] + NORM
    after, _ = apply(FUSE, model(body, "int32[n,l] ids, int32[n,l] types"), feeds(kind=np.int32))
    assert after.op_counts() == {"com.microsoft::EmbedLayerNormalization": 1}


@pytest.mark.parametrize(
    "term",
    [
        "t = Identity(row)",
        "h = Shape(ids) o = Expand(first, h) t = Gather(kinds, o)",
        "v = Slice(nulls, first, c, second, second) h = Shape(ids) o = Expand(v, h) "
        "t = Gather(kinds, o)",
        "o = GatherElements<axis=1>(nulls, i) t = Gather(kinds, o)",
    ],
)
def test_one_segment_for_all_becomes_a_part_of_the_positions(term: str) -> None:
    body = f"{PLAIN}{term} s = Add(x, t) z = Add(s, p){NORM}"
    before = model(body, nulls=np.zeros((1, ROWS), np.int64))
    plain, _ = Recipe.parse("eliminate_identity").apply(before)
    after, change = apply(FUSE, plain, feeds())
    assert change.rewrites == 1, change.reasons
    assert len(fused(after).inputs) == 7
    assert fused(after).inputs[4] is None


def test_positions_that_start_later_are_a_part_of_the_table() -> None:
    after, change = apply(FUSE, model(WORDS + SHIFTED + " z = Add(x, p)" + NORM), feeds())
    assert change.rewrites == 1
    assert fused(after).inputs[3].const_value.shape.numpy() == (ROWS - 1, SIZE)


def test_a_norm_without_offset_gets_zeros() -> None:
    norm = NORM.replace(", beta", "")
    body = WORDS + PLACES["a range"] + " z = Add(x, p)" + norm
    after, _ = apply(FUSE, model(body), feeds())
    np.testing.assert_array_equal(fused(after).inputs[6].const_value.numpy(), np.zeros(SIZE))


def test_sizes_that_are_known() -> None:
    body = WORDS + "z = Add(x, three)" + NORM
    three = np.random.default_rng(0).standard_normal((1, 3, SIZE)).astype(np.float32)
    known = model(body, "int64[2,3] ids, int64[n,l] types", three=three)
    after, change = apply(FUSE, known, feeds())
    assert change.rewrites == 1
    assert fused(after).inputs[3].const_value.shape.numpy() == (3, SIZE)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (PLAIN + "e = Neg(x) s = Add(x, e) z = Add(s, p)" + NORM, "'e', which is no row"),
        (PLAIN + "z = Add(x, p) n = Neg(z) o = Cast<to=1>(ids)" + NORM.replace("y =", "w =")
         + " y = Add(w, n)", "read by"),
        (PLAIN + "z = Add(x, p)" + NORM.replace("-1", "1").replace("gamma, beta", "g3"), ""),
        (WORDS + KINDS + "z = Add(x, t)" + NORM.replace("y =", "w =")
         + " k = Add(x, t) y = Add(w, k)", "it would save no kernel"),
        (PLAIN + "t = Gather(kinds, types) u = Gather(words, types) z = Sum(x, p, t, u)" + NORM,
         "3 by ids and 1 by position"),
        (PLAIN + "s = Add(x, row) z = Add(s, p) k = Gather(places, types)"
         + NORM.replace("y =", "w =") + " y = Add(w, k)", "reads its table of positions"),
        (WORDS + "z = Add(x, row)" + NORM, "1 by ids and 0 by position"),
    ],
)  # fmt: skip
def test_what_is_left_alone_is_told(body: str, why: str) -> None:
    three = np.ones((3, SIZE), np.float32)
    _, change = apply(FUSE, model(body, g3=three), feeds())
    assert not change.changed
    assert any(why in reason for reason in change.reasons), change.reasons


def test_embeddings_that_are_given_are_told_with_what_is_in_the_way() -> None:
    given = "float[n,l,4] x, int64[n,l] ids"
    body = PLAIN.replace(WORDS, "") + "u = Gather(kinds, ids) v = Mul(x, x) z = Sum(v, p, u)" + NORM
    _, change = FUSE.apply(model(body, given))
    (missed,) = change.missed
    assert missed.kind == "EmbedLayerNormalization"
    assert missed.blocking == "v"
    assert "'v', which is no row of a constant table" in missed.why


def test_a_table_that_is_a_default_is_no_constant() -> None:
    body = PLAIN + "z = Add(x, p)" + NORM
    given = "int64[n,l] ids, int64[n,l] types, float[6,4] places"
    overridable = model(body, given)
    assert not FUSE.apply(overridable)[1].changed


def test_double_precision_has_no_kernel() -> None:
    body = PLAIN + "z = Add(x, p)" + NORM
    wide = {
        k: np.ones(s)
        for k, s in {"words": (10, 4), "places": (6, 4), "gamma": 4, "beta": 4}.items()
    }
    double = parse(
        f"(int64[n,l] ids) => (double[n,l,4] y) {{ {body} }}", 17, 8, **wide,
        all=np.arange(6)[None], first=np.int64([0]), second=np.int64([1]),
    )  # fmt: skip
    _, change = apply(FUSE, double, {"ids": feeds()["ids"]})
    assert "it is in double, not float32 or float16" in change.reasons[0]


def test_the_rest_of_the_recipe_and_both_engines_take_it() -> None:
    body = WORDS + KINDS + PLACES["a part of all positions"] + " " + SUMS["words first"]
    body += NORM.replace("y =", "w =") + " k = Add(w, x) y = LayerNormalization(k, gamma, beta)"
    before = model(body)
    after, _ = Recipe.parse(RECIPES["onnxruntime"]).apply(before)
    counts = after.op_counts()
    assert counts["com.microsoft::EmbedLayerNormalization"] == 1
    assert counts["com.microsoft::SkipLayerNormalization"] == 1
    assert len(executed(after)) < len(executed(before))
    got = openvino_answers(after, feeds())
    assert difference(answers(before, feeds()), got) < 1e-5


def test_a_sum_that_is_skipped_already_stays() -> None:
    body = WORDS + KINDS + "z = Add(x, t)" + NORM
    skipped, change = FuseSkipLayerNorm().apply(model(body))
    assert change.rewrites == 1
    assert not FUSE.apply(skipped)[1].changed
