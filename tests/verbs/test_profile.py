"""Profiles of real models on both engines: what is slow, what it multiplies, its module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxpress import api
from onnxpress.errors import BundleError, EngineError, InputError
from onnxpress.macs import macs_per_node
from onnxpress.model import load
from onnxpress.recipe import Recipe
from onnxpress.verbs.calibrate import gather
from onnxpress.verbs.feeds import random_feeds
from onnxpress.verbs.profiled import Profiled
from zoo.bundles import write_bundle
from zoo.graphs import parse

pytestmark = pytest.mark.usefixtures("in_process", "small_peak")
ENGINES = pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])


def macs(found: Profiled) -> int:
    assert all(node.rate.macs is not None for node in found.nodes)
    return sum(node.rate.macs or 0 for node in found.nodes)


@ENGINES
def test_a_planted_slow_node_is_on_top(engine: str, tmp_path: Path) -> None:
    """A product of 200 times the work of any other; a Softmax beside it multiplies nothing."""
    rng = np.random.default_rng(0)
    model = parse(
        "(float[n, 32] x) => (float[n, 32] y) { a = MatMul (x, small) b = Abs (a) "
        "c = MatMul (b, wide) d = Tanh (c) e = MatMul (d, narrow) y = Softmax (e) }",
        small=rng.standard_normal((32, 32), np.float32),
        wide=rng.standard_normal((32, 6400), np.float32),
        narrow=rng.standard_normal((6400, 32), np.float32) / 100,
    )
    for node in model.nodes():
        node.name = f"node_{node.outputs[0].name}"
    found = api.profile(
        model.save(tmp_path / "m.onnx"), engine=engine, threads=1, batch=64, rounds=8
    )
    heavy = [node for node in found.nodes if "node_c" in node.layers or "node_e" in node.layers]
    assert {node.rate.macs for node in heavy} == {64 * 32 * 6400}
    small = next(node for node in found.nodes if node.rate.macs == 64 * 32 * 32)
    assert min(node.rate.ms for node in heavy) > small.rate.ms
    assert found.nodes[0].rate.ms == max(node.rate.ms for node in found.nodes)
    assert "Softmax" in {one.name for one in found.by_op if one.rate.macs == 0}
    assert found.shapes == {"x": (64, 32)}


@ENGINES
@pytest.mark.parametrize("name", ["cnn", "cnn_bn", "lstm", "mlp", "transformer"])
def test_fused_kernels_have_all_the_macs_of_the_graph_once(
    engine: str, name: str, zoo_model: Callable[[str], Path]
) -> None:
    path = zoo_model(name)
    found = api.profile(path, engine=engine, threads=1, batch=3, rounds=3)
    shapes = {key: list(shape) for key, shape in found.shapes.items()}
    assert shapes["input"][0] == 3
    assert macs(found) == api.inspect(path, shapes=shapes).macs > 0
    assert len(found.nodes) < len(list(load(path).nodes())), "the engine fused"


@ENGINES
def test_sums_agree(engine: str, zoo_model: Callable[[str], Path]) -> None:
    found = api.profile(zoo_model("transformer"), engine=engine, threads=1, batch=2, rounds=5)
    for sums in (found.by_op, found.by_module, found.modules_alike):
        assert sum(one.rate.ms for one in sums) == pytest.approx(found.nodes_ms)
        assert sum(one.rate.share for one in sums) == pytest.approx(1)
        assert sum(one.rate.macs or 0 for one in sums) == macs(found)
        assert sum(one.count for one in sums) == len(found.nodes)
    data = found.to_dict()
    assert data["total_ms"] == pytest.approx(found.nodes_ms + found.untold_ms)
    for node in found.nodes:
        if node.rate.macs and node.rate.ms:
            assert node.rate.gflops == pytest.approx(2e-6 * node.rate.macs / node.rate.ms)
            assert node.rate.peak_share == pytest.approx(node.rate.gflops / found.peak_gflops)
    assert len(found.events) >= len(found.nodes)


BLOCKS = ("stem.0", "blocks.*.first", "blocks.*.second", "blocks.1.around", "head")


@ENGINES
@pytest.mark.parametrize(
    ("name", "modules"),
    [("cnn_bn", BLOCKS), ("transformer", ("qkv", "out", "wide", "narrow", ""))],
)
def test_modules_are_those_of_the_torch_export(
    engine: str, name: str, modules: tuple[str, ...], zoo_model: Callable[[str], Path]
) -> None:
    """Of either exporter: in the nodes' names, and in their metadata."""
    found = api.profile(zoo_model(name), engine=engine, threads=1, rounds=3)
    assert {one.name for one in found.modules_alike if one.rate.macs} == set(modules)
    assert {node.module for node in found.nodes if "head" in node.name} <= {"head"}


@ENGINES
def test_a_quantised_graph(engine: str, zoo_model: Callable[[str], Path], tmp_path: Path) -> None:
    source = load(zoo_model("cnn"))
    feeds = random_feeds(source.signature, 4, 0)
    recipe = Recipe.parse("quantize_static")
    built, _ = recipe.apply(source, gather(recipe, source, lambda: [feeds]))
    found = api.profile(built.save(tmp_path / "int8.onnx"), engine=engine, threads=1, rounds=3)
    assert macs(found) == sum(macs_per_node(source).values())
    int8 = [node for node in found.nodes if node.rate.macs and node.precision == "int8"]
    assert len(int8) >= 6
    assert any("the peak is that of float32" in warning for warning in found.warnings)


def test_contrib_operators_of_an_optimised_graph(
    zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    path = zoo_model("transformer")
    fused = api.optimize(path, target="onnxruntime", verify=False).model
    assert "Attention" in " ".join(fused.op_counts())
    found = api.profile(fused.save(tmp_path / "fused.onnx"), threads=1, rounds=3, batch=2)
    shape = list(found.shapes["input"])
    assert macs(found) == api.inspect(path, shapes={"input": shape}).macs


BRANCHES = (
    "(float[n, 16] x, bool c) => (float[n, 16] z) { "
    "t = Constant <value_int = 3> () "
    "y = Loop (t, , x) <body = b (int64 i, bool k, float[n, 16] h) => (bool l, float[n, 16] p) "
    "{ l = Identity (k) p = MatMul (h, w) }> "
    "z = If (c) <then_branch = u () => (float[n, 16] d) { d = MatMul (x, w) }, "
    "else_branch = v () => (float[n, 16] e) { f = MatMul (x, w) e = MatMul (f, w) }> }"
)


def branches(folder: Path) -> Path:
    return parse(BRANCHES, w=np.eye(16, dtype=np.float32)).save(folder / "m.onnx")


def test_loops_and_branches_count_as_often_as_they_ran(tmp_path: Path) -> None:
    """Nodes without names, too: three trips, and the branch with one product or that with two."""
    path, product = branches(tmp_path), 4 * 16 * 16
    for taken, products in ((True, 4), (False, 5)):
        rows = {"x": np.ones((4, 16), np.float32), "c": np.full(4, taken)}
        np.savez(tmp_path / "s.npz", **rows)
        found = api.profile(path, samples=str(tmp_path / "s.npz"), batch=4, threads=1, rounds=3)
        assert macs(found) == products * product
        body = next(node for node in found.nodes if node.calls == 3 and node.op == "MatMul")
        assert body.rate.macs == 3 * product
        loop = next(node for node in found.nodes if node.op == "Loop")
        assert loop.rate.macs == 0


def test_a_loop_is_one_kernel_of_openvino(tmp_path: Path) -> None:
    found = api.profile(branches(tmp_path), engine="openvino", threads=1, rounds=3)
    unknown = [node for node in found.nodes if node.rate.macs is None]
    assert [node.op for node in unknown] == ["If"], "which branch it took is not told"
    assert any("sizes of 1 kernel" in warning for warning in found.warnings)


def test_a_bundle_runs_as_its_form_says(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", engines=("openvino", "onnxruntime"))
    found = api.profile(tmp_path / "b", rounds=3)
    assert (found.engine, found.threads) == ("openvino", 1)
    assert api.profile(tmp_path / "b", engine="onnxruntime", rounds=3).engine == "onnxruntime"
    with pytest.raises(BundleError, match=r"no form of .* it runs on openvino"):
        api.profile(tmp_path / "b", engine="null")


def test_live_models_and_what_the_engine_refuses(tmp_path: Path) -> None:
    model = parse("(float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }")
    found = api.profile(model, rounds=3)
    assert found.batch == 2
    with pytest.raises(InputError, match="--batch 3; expected 2"):
        api.profile(model, batch=3)
    with pytest.raises(EngineError, match="null does not tell where its time goes"):
        api.profile(model, engine="null")


def test_fewer_samples_than_the_batch_come_again(tmp_path: Path) -> None:
    model = parse("(float[n, 3] x) => (float[n, 3] y) { y = Relu (x) }")
    np.savez(tmp_path / "s.npz", x=np.ones((2, 3), np.float32))
    found = api.profile(model, samples=str(tmp_path / "s.npz"), batch=5, rounds=3)
    assert found.shapes == {"x": (5, 3)}
