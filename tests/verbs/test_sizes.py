"""Models whose free dimensions depend on each other are proven on sizes that fit together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxpress
from onnxpress import api
from onnxpress.errors import EngineError
from onnxpress.model import Model
from onnxpress.verbs.domains import domains
from onnxpress.verbs.sizes import Sizes, running_sizes
from zoo.graphs import parse

CACHE = """(float[b,n,4] x, float[c,t] mask, float[b,1,p,4] k0, float[b,1,q,4] v0)
=> (float[b,t] y) {
    new = Unsqueeze(x, one)
    k = Concat<axis=2>(k0, new)
    v = Concat<axis=2>(v0, new)
    kv = Mul(k, v)
    same = Identity(kv)
    s = ReduceSum<keepdims=0>(same, axes)
    y = Mul(s, mask)
}"""
SOUND = "(float[b,1,t] x) => (float[b,2,u] y) { a = Identity(x) y = Conv(a, w) }"
FOUND = {(5, 3), (1, 7), (7, 1)}
"""New tokens, and those before them."""


def cache() -> Model:
    return parse(CACHE, one=np.array([1]), axes=np.array([1, 3]))


def found(model: Model) -> list[Sizes]:
    known = domains(model)
    return running_sizes(model, lambda sizes: known.feeds(model.signature, 2, 0, sizes))


def test_a_mask_as_long_as_the_cache_and_the_new_tokens() -> None:
    told = found(cache())
    assert {(sizes["n"], sizes["p"]) for sizes in told} == FOUND
    assert all(s["t"] == s["n"] + s["p"] and s["q"] == s["p"] for s in told)


def test_a_sound_long_enough_for_its_network() -> None:
    model = parse(SOUND, w=np.ones((2, 1, 300), np.float32))
    assert found(model) == [{"t": 400}]


def test_nothing_where_the_usual_sizes_run() -> None:
    assert found(parse("(float[b,l] x) => (float[b,l] y) { y = Relu(x) }")) == []


def test_nothing_where_nothing_fits_or_nothing_is_free() -> None:
    fixed = parse("(float[b,l] x) => (float[4,3] y) { y = Reshape(x, s) }", s=np.array([4, 3]))
    assert found(fixed) == []
    assert found(parse("(float[b,3] x) => (float[b,3] y) { y = Relu(x) }")) == []


@pytest.mark.parametrize("target", ["portable", "onnxruntime"])
def test_optimize_proves_them_unasked(target: str) -> None:
    result = onnxpress.optimize(cache(), target=target)
    assert "Identity" not in result.after.ops
    assert result.verified is not None
    assert result.verified.ok
    shapes = [case.shapes for case in result.verified.cases]
    assert {(s["x"][1], s["k0"][2]) for s in shapes} == FOUND
    assert {s["x"][0] for s in shapes} == {1, 2, 5}


def test_verify_and_opset_do_so_too(tmp_path: Path) -> None:
    path = cache().save(tmp_path / "cache.onnx")
    assert onnxpress.verify(path, path).ok
    assert api.change_opset(path, 20).verified.ok


def test_samples_may_each_have_their_own_size() -> None:
    records = [
        {"x": np.ones((n, 4), np.float32), "mask": np.ones(n + p, np.float32),
         **dict.fromkeys(("k0", "v0"), np.ones((1, p, 4), np.float32))}
        for n, p in ((3, 0), (1, 3), (1, 4), (1, 4))
    ]  # fmt: skip
    result = onnxpress.optimize(cache(), samples=records)
    assert result.verified is not None
    assert [case.shapes["x"][:2] for case in result.verified.cases] == [(1, 3), *[(1, 1)] * 3]
    broken = [*records, {**records[0], "x": np.ones((3, 5), np.float32)}]
    with pytest.raises(onnxpress.OnnxpressError, match="sample 4"):
        onnxpress.optimize(cache(), samples=broken)


def test_what_no_size_helps_names_all_that_are_free() -> None:
    model = parse("(float[b,l] x) => (float[4,3] y) { y = Reshape(x, s) }", s=np.array([4, 3]))
    with pytest.raises(EngineError, match=r"--fix b=SIZE --fix l=SIZE"):
        onnxpress.optimize(model)
