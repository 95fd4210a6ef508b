"""Recipes are text and passes, and either makes the other."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress import registry
from onnxpress.errors import InputError, PluginError
from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Pass, Ranges, Recipe
from zoo.graphs import parse, serialized

PASSES = [registry.create(Pass, "passes", name) for name in registry.names("passes")]


@dataclass(frozen=True)
class Every(Pass):
    """A pass with a field of every type; renames nodes by ``word``."""

    word: str = "word"
    count: int = 1
    share: float = 0.5
    flag: bool = False
    sizes: tuple[int, ...] = (1, 2)
    free: int | None = None

    def rewrite(self, model: Model, facts: Facts) -> Change:
        nodes = [node for node in model.nodes() if node.name != self.word]
        for node in nodes:
            node.name = self.word
        return Change(len(nodes), (f"kept {self.count}",))


@pytest.fixture(scope="module", autouse=True)
def every_pass() -> object:
    """``every`` is a pass of another package while these tests run."""
    patch = pytest.MonkeyPatch()
    known = registry._modules

    def modules(socket: str) -> dict[str, str]:
        return {**known(socket), **({"every": "every_pass:Every"} if socket == "passes" else {})}

    patch.setattr(registry, "_modules", modules)
    patch.setitem(sys.modules, "every_pass", sys.modules[__name__])
    yield
    patch.undo()
    registry._NAMES.pop(Every, None)


CHOICES = {
    "block_size": (16, 32), "compute": ("float32", "int8"), "scales": ("minmax", "mse"),
    "form": ("MatMulNBits", "DequantizeLinear"),
}  # fmt: skip
"""Fields that take no other value than a few."""


def other(step: Pass) -> Pass:
    """``step`` with other values in its fields, where it takes them."""
    changes: dict[str, object] = {}
    for field in dataclasses.fields(step):
        value = getattr(step, field.name)
        if isinstance(value, bool):
            changes[field.name] = not value
        elif field.name in CHOICES or value == 4:
            choices = CHOICES.get(field.name, (4, 8))
            changes[field.name] = next(choice for choice in choices if choice != value)
        elif isinstance(value, int):
            changes[field.name] = value - 1
        elif value == "uint8":
            changes[field.name] = "int8"
        elif isinstance(value, str):
            changes[field.name] = value + "_too"
        elif isinstance(value, tuple):
            changes[field.name] = (*value, "an/other")
    return dataclasses.replace(step, **changes)


@pytest.mark.parametrize("step", PASSES, ids=str)
def test_every_pass_survives_its_text_whatever_its_fields(step: Pass) -> None:
    assert str(step) == step.name
    changed = other(step)
    assert Recipe.parse(str(changed)) == Recipe((changed,))
    for field in dataclasses.fields(step):
        assert f"{field.name}=" in str(changed)
    assert Recipe.parse(f" {changed} ,, {step}") == Recipe((changed, step))


def test_all_passes_in_one_recipe() -> None:
    recipe = Recipe(tuple(PASSES) + tuple(map(other, PASSES)))
    assert Recipe.parse(str(recipe)) == recipe
    assert Recipe.parse("") == Recipe()


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None)  # the first case imports every pass
@given(
    word=words,
    count=st.integers(),
    share=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    sizes=st.lists(st.integers(), max_size=3).map(tuple),
    free=st.none() | st.integers(),
)
def test_any_value_of_a_field_survives(
    word: str, count: int, share: float, flag: bool, sizes: tuple[int, ...], free: int | None
) -> None:
    registry.get("passes", "every")
    recipe = Recipe((Every(word, count, share, flag, sizes, free), Every()))
    assert Recipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("every(word=8)", Every(word="8")),
        ("every(word=a/b.*)", Every(word="a/b.*")),
        ("every(share=2)", Every(share=2.0)),
        ("every(sizes=(3, 4), count=2)", Every(sizes=(3, 4), count=2)),
        ("every(word='a,b)')", Every(word="a,b)")),
        ("every( count = 3 )", Every(count=3)),
        ("every()", Every()),
    ],
)
def test_text_means_what_it_says(text: str, step: Pass) -> None:
    assert Recipe.parse(text) == Recipe((step,))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fold", r"unknown pass 'fold'; expected one of .*fold_constants"),
        ("every,fold(x=1)", "unknown pass 'fold'"),
    ],
)
def test_unknown_passes_are_named(text: str, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        Recipe.parse(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("every(", r"'every\(' names none of the passes; expected NAME or NAME\(key=value, …\)"),
        ("every)", "expected NAME"),
        ("every(count=1)x", "expected NAME"),
        ("a b", "expected NAME"),
        ("every(3)", r"sets '3'; expected key=value with key in count, flag, free"),
        ("every(size=3)", "sets 'size=3'; expected key=value with key in count"),
        ("eliminate_dead(x=1)", "key=value with key in no fields"),
        ("every(count=abc)", "sets 'count=abc'; expected int, such as 1"),
        ("every(count=1.5)", "expected int"),
        ("every(count=True)", "expected int"),
        ("every(count=)", "expected int"),
        ("every(flag=yes)", "expected bool, such as False"),
        ("every(share=much)", "expected float"),
        ("every(sizes=1)", "expected tuple"),
        ("fold_constants(max_bytes=x)", "expected int, such as 1048576"),
        ("quantize_static(activations=float)", "activations=float; expected uint8 or int8"),
    ],
)
def test_errors_name_the_step_and_what_it_takes(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Recipe.parse(text)


def test_a_recipe_needs_what_its_passes_need_once() -> None:
    recipe = Recipe.parse("quantize_static,quantize_static(activations=int8),eliminate_dead")
    assert recipe.needs() == (Ranges("minmax"), Ranges("minmax", "int8"))
    assert Recipe.parse("eliminate_dead").needs() == ()


def test_applying_a_recipe_clones_once_and_journals_its_text() -> None:
    model = parse("(float[2] x) => (float[2] y) { y = Relu(x) }")
    before = serialized(model)
    recipe = Recipe((Every("a"), Every("b", count=7)))
    after, change = recipe.apply(model)
    assert change == Change(2, ("kept 1", "kept 7"))
    assert serialized(model) == before
    assert [(entry.step, entry.rewrites) for entry in after.journal.entries] == [(str(recipe), 2)]
    unchanged, change = Every("b").apply(after)
    assert unchanged is after
    assert not change.changed


@dataclass(frozen=True)
class _Breaks(Pass):
    def rewrite(self, model: Model, facts: Facts) -> Change:
        model.ir.graph.inputs[0].name = "z"
        return Change(1)


def test_a_pass_that_breaks_the_signature_is_a_bug() -> None:
    model = parse("(float[2] x) => (float[2] y) { y = Relu(x) }")
    with pytest.raises(AssertionError, match="changed the signature"):
        _Breaks().apply(model)
    assert model.signature.inputs[0].name == "x"
