"""Optimising is guarded: what breaks the outputs is found, undone and named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import onnxpress
import zoo
from onnxpress.engine import Session
from onnxpress.model import Model, load
from onnxpress.recipe import Change, Facts, Kernels, Need, Pass, Recipe
from onnxpress.signature import Feeds
from onnxpress.values import add_initializer
from onnxpress.verbs.feeds import random_feeds
from onnxpress.verbs.optimize import DEFAULT_RECIPE, RECIPES, optimize
from zoo.graphs import answers, difference, openvino_answers, parse


@dataclass(frozen=True)
class Wreck(Pass):
    """Doubles every bias: wrong, and quick to run."""

    def rewrite(self, model: Model, facts: Facts) -> Change:
        count = 0
        for value in model.ir.graph.initializers.values():
            tensor = value.const_value
            bias = tensor is not None and len(tensor.shape) == 1
            if bias and tensor.dtype == ir.DataType.FLOAT and "wrecked" not in model.metadata:
                value.const_value = ir.tensor(tensor.numpy() * 2 + 1, name=value.name)
                count += 1
        if count:
            model.metadata["wrecked"] = "yes"
        return Change(count)


@dataclass(frozen=True)
class Rename(Pass):
    """Renames one node a round, twice: work that needs several rounds."""

    def rewrite(self, model: Model, facts: Facts) -> Change:
        done = int(model.metadata.get("renamed", "0"))
        if done == 2:
            return Change()
        model.metadata["renamed"] = str(done + 1)
        return Change(1)


@dataclass(frozen=True)
class Wedge(Pass):
    """Doubles and halves what goes into every Relu: exact, and the end of a fusion."""

    def rewrite(self, model: Model, facts: Facts) -> Change:
        count = 0
        for node in list(model.ir.graph):
            data = node.inputs[0] if node.op_type == "Relu" else None
            if data is None or data.producer().op_type == "Mul":
                continue
            for number in (2.0, 0.5):
                factor = ir.tensor(np.float32(number), name=f"{node.name}_{number}")
                value = add_initializer(model.ir.graph, str(factor.name), factor)
                wedge = ir.node("Mul", [data, value])
                wedge.outputs[0].name = f"{factor.name}_out"
                node.prepend(wedge)
                data = wedge.outputs[0]
            node.replace_input_with(0, data)
            count += 1
        return Change(count)


@dataclass(frozen=True)
class Curious(Pass):
    """Wants to know what is executed."""

    def needs(self) -> tuple[Need, ...]:
        return (Kernels(),)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        return Change(0, tuple(kernel.op for kernel in facts.kernels))


@pytest.fixture
def mlp(zoo_model: Callable[[str], Path]) -> Model:
    return load(zoo_model("mlp"))


def batches(model: Model) -> Callable[[], Iterable[Feeds]]:
    return lambda: [random_feeds(model.signature, size, size) for size in (1, 2)]


def test_a_pass_that_breaks_the_outputs_is_undone_and_named(mlp: Model) -> None:
    good = Recipe.parse("fold_constants,eliminate_identity").passes
    recipe = Recipe((*good, Wreck(), *Recipe.parse("eliminate_dead").passes))
    result = optimize(mlp, batches(mlp), recipe)
    assert result.verified.ok
    undone = [outcome for outcome in result.passes if outcome.reverted]
    assert len(undone) == 1
    assert "Wreck" in undone[0].name or undone[0].name == Wreck().name
    assert "output" in undone[0].reason
    assert "wrecked" not in result.model.metadata


def test_two_guilty_passes_are_both_undone(mlp: Model) -> None:
    @dataclass(frozen=True)
    class Again(Wreck):
        """Another one."""

    result = optimize(mlp, batches(mlp), Recipe((Wreck(), Again())))
    assert [outcome.reverted for outcome in result.passes] == [True, True]
    assert result.verified.ok


def test_a_pass_that_costs_a_fusion_is_undone_and_named(zoo_model: Callable[[str], Path]) -> None:
    model = load(zoo_model("cnn_bn"))
    good = Recipe.parse("fuse_conv_bn").passes
    result = optimize(model, batches(model), Recipe((Wedge(), *good)))
    wedge, fused = result.passes
    assert wedge.reverted
    assert "would execute" in wedge.reason
    assert "Mul" in wedge.reason
    assert fused.rewrites
    assert not fused.reverted
    assert "Mul" not in result.after.ops


def test_a_pass_is_told_the_kernels_that_it_needs(zoo_model: Callable[[str], Path]) -> None:
    model = load(zoo_model("cnn_bn"))
    (told,) = optimize(model, batches(model), Recipe((Curious(),))).passes
    assert "Conv" in told.reason
    assert "BatchNormalization" not in told.reason  # ONNX Runtime has folded it


def test_all_well_costs_two_runs(mlp: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    real = Session.run
    monkeypatch.setattr(Session, "run", lambda *args: runs.append(1) or real(*args))
    optimize(mlp, lambda: [random_feeds(mlp.signature, 2, 0)])
    assert len(runs) == 2


def test_a_recipe_runs_until_nothing_changes(mlp: Model) -> None:
    result = optimize(mlp, batches(mlp), Recipe((Rename(),)))
    assert result.passes[0].rewrites == 2
    assert [entry.rewrites for entry in result.model.journal.entries][-2:] == [1, 1]


def test_the_original_is_untouched_and_never_grows(zoo_model: Callable[[str], Path]) -> None:
    path = zoo_model("cnn_bn")
    model, before = load(path), path.read_bytes()
    result = optimize(model, batches(model), Recipe.parse(DEFAULT_RECIPE))
    assert path.read_bytes() == before
    assert result.after.nodes < result.before.nodes
    assert "BatchNormalization" not in result.after.ops
    assert result.after.size_bytes <= result.before.size_bytes
    assert result.to_dict()["verified"]["ok"] is True  # type: ignore[index]


@pytest.mark.parametrize("name", zoo.names())
def test_both_engines_take_what_is_made_for_one(
    name: str, zoo_model: Callable[[str], Path]
) -> None:
    model = load(zoo_model(name))
    after, _ = Recipe.parse(RECIPES["onnxruntime"]).apply(model)
    feeds = zoo.feeds(model.signature, 2, seed=3)
    expected = answers(model, feeds)
    assert difference(expected, answers(after, feeds)) < 1e-4
    assert difference(expected, openvino_answers(after, feeds)) < 1e-4


def test_outputs_agree_on_new_inputs(zoo_model: Callable[[str], Path], tmp_path: Path) -> None:
    import onnxruntime

    path = zoo_model("cnn_bn")
    model = load(path)
    saved = optimize(model, batches(model)).model.save(tmp_path / "optimized.onnx")
    feeds = random_feeds(model.signature, 5, seed=99)
    one, two = (
        onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, feeds)
        for file in (path, saved)
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("target", ["portable", "onnxruntime"])
def test_small_weights_in_another_file(target: str, tmp_path: Path) -> None:
    proto = ir.to_proto(
        parse(
            "(float[n,4] x) => (float[n,4] y) { a = Identity(x) y = Add(a, b) }",
            b=np.ones((1, 4), np.float32),
        ).ir
    )
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="model.data", size_threshold=0)
    assert (tmp_path / "model.data").stat().st_size >= 16
    result = onnxpress.optimize(path, target=target)
    assert result.model.op_counts() == {"Add": 1}


def test_no_pass_looks_twice_at_the_same_graph() -> None:
    looked: list[str] = []

    @dataclass(frozen=True)
    class Look(Pass):
        """Changes nothing."""

        called: str = ""

        def rewrite(self, model: Model, facts: Facts) -> Change:
            looked.append(self.called)
            return Change()

    model = parse("(float[2] x) => (float[2] y) { y = Relu(x) }")
    optimize(model, None, Recipe((Look("before"), Rename(), Look("after"))))
    assert looked == ["before", "after"] * 2 + ["before"]
