"""Wrong passes of another package are found, undone and named, and the right ones stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

import onnxpress
from conftest import Shell
from onnxpress.errors import EngineError
from onnxpress.model import Model, check
from onnxpress.recipe import Recipe
from onnxpress.signature import Feeds
from onnxpress.verbs.feeds import random_feeds
from onnxpress.verbs.optimize import Optimized, optimize
from zoo.graphs import answers, difference, parse

WRONG = '''
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.recipe import Change, Pass


def first(model, op):
    return next((node for node in model.nodes() if node.op_type == op), None)


def scaled(model):
    """Whether this is the first time: a weight becomes W · 1.01."""
    if "scaled" in model.metadata:
        return False
    weight = model.ir.graph.initializers["w"]
    weight.const_value = ir.tensor(weight.const_value.numpy() * weight.const_value.numpy().dtype
                                   .type(1.01), name="w")
    model.metadata["scaled"] = "yes"
    return True


@dataclass(frozen=True)
class ScaleAWeight(Pass):
    """``x W`` → ``x (1.01 W)``."""

    def rewrite(self, model, facts):
        return Change(int(scaled(model)))


@dataclass(frozen=True)
class SwapASub(Pass):
    """``a - b`` → ``b - a``."""

    def rewrite(self, model, facts):
        node = first(model, "Sub")
        if node is None or node.name == "swapped":
            return Change()
        a, b = node.inputs
        node.replace_input_with(0, b)
        node.replace_input_with(1, a)
        node.name = "swapped"
        return Change(1)


@dataclass(frozen=True)
class Raises(Pass):
    """Changes the weight, then fails."""

    def rewrite(self, model, facts):
        scaled(model)
        raise KeyError("a pattern that was taken for granted")


@dataclass(frozen=True)
class ChangeTheSignature(Pass):
    """Renames the output."""

    def rewrite(self, model, facts):
        output = model.ir.graph.outputs[0]
        if output.name == "renamed":
            return Change()
        output.name = "renamed"
        return Change(1)


@dataclass(frozen=True)
class WriteNoSuchOperator(Pass):
    """``Relu(x)`` → an operator that does not exist."""

    def rewrite(self, model, facts):
        node = first(model, "Relu")
        if node is None:
            return Change()
        node.op_type = "NoSuchOperator"
        return Change(1)


@dataclass(frozen=True)
class WriteACircle(Pass):
    """The Sub takes what is made of it."""

    def rewrite(self, model, facts):
        node, last = first(model, "Sub"), first(model, "Relu")
        if node is None or last is None or node.inputs[1] is last.outputs[0]:
            return Change()
        node.replace_input_with(1, last.outputs[0])
        return Change(1)


@dataclass(frozen=True)
class FreezeTheBatch(Pass):
    """``Flatten(x)`` → ``Reshape(x, [1, -1])``: right for one row."""

    def rewrite(self, model, facts):
        node = first(model, "Flatten")
        if node is None:
            return Change()
        graph = model.ir.graph
        shape = ir.Value(name="frozen", const_value=ir.tensor([1, -1], name="frozen"))
        graph.register_initializer(shape)
        made = ir.node("Reshape", [node.inputs[0], shape])
        graph.insert_before(node, made)
        node.outputs[0].replace_all_uses_with(made.outputs[0])
        graph.remove(node, safe=True)
        return Change(1)


@dataclass(frozen=True)
class MixTheBatch(Pass):
    """``Relu(x)`` → ``Relu(mean of x over the batch)``, as wide as x: right for one row."""

    def rewrite(self, model, facts):
        node = first(model, "Relu")
        if node is None or node.inputs[0].producer().op_type == "Expand":
            return Change()
        graph, x = model.ir.graph, node.inputs[0]
        mean = ir.node("ReduceMean", [x], {"axes": [0], "keepdims": 1})
        shape = ir.node("Shape", [x])
        wide = ir.node("Expand", [mean.outputs[0], shape.outputs[0]])
        for made in (mean, shape, wide):
            graph.insert_before(node, made)
        node.replace_input_with(0, wide.outputs[0])
        return Change(1)


@dataclass(frozen=True)
class WrongTheSecondTime(Pass):
    """``Relu(x)`` → ``Relu(Relu(x))``, which is right; in the next round a weight is scaled."""

    def rewrite(self, model, facts):
        if "once" in model.metadata:
            return Change(int(scaled(model)))
        model.metadata["once"] = "yes"
        node = first(model, "Relu")
        made = ir.node("Relu", [node.inputs[0]])
        model.ir.graph.insert_before(node, made)
        node.replace_input_with(0, made.outputs[0])
        return Change(1)


@dataclass(frozen=True)
class NameTheMatMul(Pass):
    """Right: a node gets a name."""

    def rewrite(self, model, facts):
        node = first(model, "MatMul")
        if node.name == "named":
            return Change()
        node.name = "named"
        return Change(1)


def negated_twice(model, op):
    """``op(…)`` → ``-(-op(…))``: right, and two kernels more."""
    node = first(model, op)
    if any(use.node.op_type == "Neg" for use in node.outputs[0].uses()):
        return Change()
    once = ir.node("Neg", [node.outputs[0]])
    twice = ir.node("Neg", [once.outputs[0]])
    node.outputs[0].replace_all_uses_with(twice.outputs[0])
    once.replace_input_with(0, node.outputs[0])
    for made in (twice, once):
        model.ir.graph.insert_after(node, made)
    return Change(1)


@dataclass(frozen=True)
class CostKernels(Pass):
    """``x W`` → ``-(-x W)``."""

    def rewrite(self, model, facts):
        return negated_twice(model, "MatMul")


@dataclass(frozen=True)
class CostKernelsOnPurpose(Pass):
    """``a - b`` → ``-(-(a - b))``."""

    may_add_kernels = True

    def rewrite(self, model, facts):
        return negated_twice(model, "Sub")
'''
CLASSES = {
    "scale_a_weight": "ScaleAWeight",
    "swap_a_sub": "SwapASub",
    "raises": "Raises",
    "change_the_signature": "ChangeTheSignature",
    "write_no_such_operator": "WriteNoSuchOperator",
    "write_a_circle": "WriteACircle",
    "freeze_the_batch": "FreezeTheBatch",
    "mix_the_batch": "MixTheBatch",
    "wrong_the_second_time": "WrongTheSecondTime",
    "name_the_matmul": "NameTheMatMul",
    "cost_kernels": "CostKernels",
    "cost_kernels_on_purpose": "CostKernelsOnPurpose",
}
ANSWERS = [
    "scale_a_weight",
    "swap_a_sub",
    "freeze_the_batch",
    "mix_the_batch",
    "wrong_the_second_time",
]
"""Those that make a graph which ONNX Runtime takes."""
RAISES = ["raises", "change_the_signature"]
INVALID = ["write_no_such_operator"]
RIGHT = ["eliminate_identity", "name_the_matmul"]


@pytest.fixture(autouse=True)
def planted(installed: Callable[..., None]) -> None:
    points = "".join(f"{name} = plugpack.wrong:{kind}\n" for name, kind in CLASSES.items())
    installed(f"[onnxpress.passes]\n{points}", wrong=WRONG)


@pytest.fixture
def model() -> Model:
    """``Relu(Flatten(Identity(x) - m) W)``: something for each of the passes."""
    rng = np.random.default_rng(0)
    text = """(float[batch, 2, 3] x) => (float[batch, 4] y) {
        same = Identity(x)
        around = Sub(same, m)
        flat = Flatten(around)
        mixed = MatMul(flat, w)
        y = Relu(mixed)
    }"""
    weights = {"m": (2, 3), "w": (6, 4)}
    return parse(text, **{n: rng.standard_normal(s).astype(np.float32) for n, s in weights.items()})


def batches(model: Model) -> Callable[[], Iterable[Feeds]]:
    return lambda: [random_feeds(model.signature, size, size) for size in (1, 2)]


def proven(result: Optimized, model: Model, wrong: Iterable[str], folder: Path) -> None:
    """``wrong`` were undone and named, all others stay, and the model answers as before."""
    by_name = {outcome.name: outcome for outcome in result.passes}
    assert {name for name, outcome in by_name.items() if outcome.reverted} == set(wrong)
    for name in wrong:
        assert by_name[name].reason
    for name in RIGHT:
        assert by_name[name].changed
    assert result.verified.ok
    assert "Identity" not in result.after.ops
    assert "named" in [node.name for node in result.model.nodes()]
    steps = {entry.step for entry in result.model.journal.entries}
    assert steps == set(RIGHT)
    feeds = random_feeds(model.signature, 7, seed=99)
    assert difference(answers(model, feeds), answers(result.model, feeds)) < 1e-6
    check(result.model.save(folder / "out.onnx"))


@pytest.mark.parametrize("where", ["first", "between", "last"])
@pytest.mark.parametrize("wrong", ANSWERS)
def test_a_pass_that_changes_the_answers(
    wrong: str, where: str, model: Model, tmp_path: Path
) -> None:
    place = {"first": 0, "between": 1, "last": 2}[where]
    recipe = Recipe.parse(",".join([*RIGHT[:place], wrong, *RIGHT[place:]]))
    result = optimize(model, batches(model), recipe)
    proven(result, model, [wrong], tmp_path)
    reason = next(outcome.reason for outcome in result.passes if outcome.name == wrong)
    assert "output 'y'" in reason or "fails where the original runs" in reason


@pytest.mark.parametrize("wrong", RAISES)
def test_a_pass_that_raises(wrong: str, model: Model, tmp_path: Path) -> None:
    recipe = Recipe.parse(",".join([RIGHT[0], wrong, RIGHT[1]]))
    proven(optimize(model, batches(model), recipe), model, [wrong], tmp_path)


@pytest.mark.parametrize("where", ["between", "last"])
@pytest.mark.parametrize(
    "wrong",
    [
        *INVALID,
        "write_a_circle",
    ],
)
def test_a_pass_that_writes_an_invalid_graph(
    wrong: str, where: str, model: Model, tmp_path: Path
) -> None:
    place = {"between": 1, "last": 2}[where]
    recipe = Recipe.parse(",".join([*RIGHT[:place], wrong, *RIGHT[place:]]))
    proven(optimize(model, batches(model), recipe), model, [wrong], tmp_path)


def test_several_of_them_at_once(model: Model, tmp_path: Path) -> None:
    recipe = Recipe.parse(",".join([ANSWERS[0], RIGHT[0], *ANSWERS[1:], RIGHT[1]]))
    proven(optimize(model, batches(model), recipe), model, ANSWERS, tmp_path)


def test_all_of_them_at_once(model: Model, tmp_path: Path) -> None:
    wrong = [*INVALID, *RAISES, *ANSWERS]
    recipe = Recipe.parse(",".join([wrong[0], RIGHT[0], *wrong[1:], RIGHT[1]]))
    proven(optimize(model, batches(model), recipe), model, wrong, tmp_path)


@pytest.mark.parametrize("steps", ["{0},{1}", "{1},{0}"])
def test_kernels_are_counted_beside_a_pass_that_may_add_some(steps: str, model: Model) -> None:
    recipe = Recipe.parse(steps.format("cost_kernels", "cost_kernels_on_purpose"))
    outcomes = {o.name: o for o in optimize(model, batches(model), recipe).passes}
    assert outcomes["cost_kernels"].reverted
    assert "2 Neg more" in outcomes["cost_kernels"].reason
    assert outcomes["cost_kernels_on_purpose"].changed
    assert not outcomes["cost_kernels_on_purpose"].reverted


def test_the_command_names_it(model: Model, tmp_path: Path, shell: Shell) -> None:
    path = model.save(tmp_path / "m.onnx")
    recipe = "eliminate_identity,swap_a_sub,name_the_matmul"
    code, out, _ = shell("optimize", path, "--recipe", recipe, "-o", tmp_path / "o.onnx", "--json")
    assert code == 0
    told = {entry["name"]: entry for entry in json.loads(out)["passes"]}
    assert told["swap_a_sub"]["reverted"]
    assert "output 'y'" in told["swap_a_sub"]["reason"]
    assert told["eliminate_identity"]["changed"]
    code, out, _ = shell("optimize", path, "--recipe", recipe, "-o", tmp_path / "o.onnx")
    assert code == 0
    assert "swap_a_sub" in out


def test_default_stands_for_the_targets_recipe(model: Model, tmp_path: Path, shell: Shell) -> None:
    path = model.save(tmp_path / "m.onnx")
    words = ("optimize", path, "-o", tmp_path / "o.onnx", "--json")
    code, out, _ = shell(*words, "--recipe", "default,scale_a_weight,name_the_matmul")
    assert code == 0
    told = json.loads(out)
    alone = [entry["name"] for entry in json.loads(shell(*words)[1])["passes"]]
    assert [p["name"] for p in told["passes"]] == [*alone, "scale_a_weight", "name_the_matmul"]
    assert [p["name"] for p in told["passes"] if p["reverted"]] == ["scale_a_weight"]
    assert told["verified"]["ok"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "(float[n,l] x) => (float[4,3] y) { y = Reshape(x, s) }",
            "cannot run the original model on x [1, 16]: Reshape: The input tensor cannot be "
            "reshaped to the requested shape. Input shape:{1,16}, requested shape:{4,3}; expected "
            "a model that it runs; try --samples or --fix n=SIZE --fix l=SIZE, or skip the proof "
            "with --no-verify",
        ),
        ("(float[n] x) => (float[n] y) { y = Nothing(x) }", "cannot open the original model: "),
        ("(float[n] x) => (float[n] y) { y = Nothing(x) }", "try --custom-ops LIB.so or onnx"),
    ],
)
def test_an_original_that_cannot_run_is_one_line(text: str, told: str) -> None:
    model = parse(text, s=np.array([4, 3]))
    with pytest.raises(EngineError) as caught:
        onnxpress.optimize(model)
    line = str(caught.value)
    assert told in line
    assert "before.onnx" not in line
    assert "::" not in line
    assert onnxpress.optimize(model, verify=False).verified is None
