"""Every exact pass, and both recipes, on the node-level models of ONNX's own backend test suite."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from onnxpress import registry
from onnxpress.model import Model
from onnxpress.recipe import Pass, Recipe
from onnxpress.verbs.optimize import RECIPES, optimize
from zoo.graphs import answers, serialized

PASSES = [registry.create(Pass, "passes", name) for name in registry.names("passes")]
EXACT = [step for step in PASSES if step.rtol is not None]
Mode = Literal["as they are", "constant"]


def models(mode: Mode) -> Iterator[tuple[str, Model, dict[str, object]]]:
    """Name, model, feeds. With ``constant`` all inputs but the first become initializers."""
    for case in load_model_tests(kind="node"):
        proto = onnx.ModelProto()
        proto.CopyFrom(case.model)
        inputs = map(plain, case.data_sets[0][0])
        feeds = dict(zip([value.name for value in proto.graph.input], inputs, strict=False))
        for value in list(proto.graph.input)[1:] if mode == "constant" else ():
            if isinstance(feeds.get(value.name), np.ndarray):
                tensor = numpy_helper.from_array(feeds.pop(value.name), value.name)
                proto.graph.initializer.append(tensor)
                proto.graph.input.remove(value)
        yield case.name, Model(ir.from_proto(proto)), feeds


def plain(value: object) -> object:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, onnx.SequenceProto):
        return numpy_helper.to_list(value)
    return numpy_helper.to_optional(value) if isinstance(value, onnx.OptionalProto) else value


def same(a: object, b: object) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind in "OSUV":
        return a.tolist() == b.tolist()
    # Half precision is rounded once more, or once less, where constants were computed before.
    rtol, atol = (1e-2, 1e-3) if a.dtype == np.float16 else (1e-4, 1e-5)
    return np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)


def valid(model: Model) -> bool:
    try:
        onnx.checker.check_model(ir.to_proto(model.ir), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def size(model: Model) -> int:
    """Its nodes. A newer opset takes as inputs, from Constants, what were attributes."""
    return sum(node.op_type != "Constant" for node in model.nodes())


def fault(step: Pass, model: Model, feeds: dict[str, object]) -> str:
    """What the pass did wrong; empty for nothing."""
    before = serialized(model)
    after, change = step.apply(model)
    if serialized(model) != before:
        return "touched its input"
    if not change.changed:
        return ""
    if not valid(after):
        return "is not valid any more"
    if step.apply(after)[1].changed or size(after) > size(model):
        return "is not idempotent, or added nodes"
    try:
        expected = answers(model, feeds)
    except Exception:  # noqa: BLE001  # ONNX Runtime lacks some operators
        return ""
    return "" if all(map(same, expected, answers(after, feeds))) else "changed an output"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["as they are", "constant"])
def test_every_operator_survives_every_exact_pass(mode: Mode) -> None:
    faults = {
        (name, step.name): found
        for name, model, feeds in models(mode)
        if valid(model)
        for step in EXACT
        if (found := fault(step, model, feeds))
    }
    assert not faults


def recipe_faults(target: str, recipe: Recipe, model: Model, feeds: dict[str, object]) -> str:
    """What the whole recipe did wrong without the guard's help; empty for nothing."""
    result = optimize(model, None, recipe)
    wrong = [f"{step.name}: {step.reason}" for step in result.passes if step.reverted]
    if wrong:
        return "; ".join(wrong)
    if result.model is model:
        return ""
    if target == "portable" and not valid(result.model):
        return "is not valid any more"
    if any(step.changed for step in optimize(result.model, None, recipe).passes):
        return "is not idempotent"
    try:
        expected = answers(model, feeds)
    except Exception:  # noqa: BLE001  # ONNX Runtime lacks some operators
        return ""
    return "" if all(map(same, expected, answers(result.model, feeds))) else "changed an output"


def all_recipe_faults(mode: Mode, chosen: float = 1.0) -> dict[tuple[str, str], str]:
    chance = random.Random(0)
    recipes = {target: Recipe.parse(text) for target, text in RECIPES.items()}
    return {
        (name, target): found
        for name, model, feeds in models(mode)
        if chance.random() < chosen and valid(model)
        for target, recipe in recipes.items()
        if (found := recipe_faults(target, recipe, model, feeds))
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["as they are", "constant"])
def test_every_operator_survives_both_recipes(mode: Mode) -> None:
    assert not all_recipe_faults(mode)


@pytest.mark.filterwarnings("ignore")
def test_some_operators_survive_both_recipes() -> None:
    assert not all_recipe_faults("constant", 0.03)
