"""Which nodes became which is read off the graphs: whatever a pass does, and without its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import onnxpress
from onnxpress.lineage import Before, Rewritten
from onnxpress.model import MOST_LETTERS, Journal, Model, load
from onnxpress.recipe import Recipe
from onnxpress.verbs.history import History
from zoo.graphs import parse

W = np.arange(9, dtype=np.float32).reshape(3, 3)


def applied(model: Model, recipe: str) -> tuple[Rewritten, ...]:
    return Recipe.parse(recipe).passes[0].apply(model)[0].journal.entries[-1].nodes


def named(text: str, **weights: np.ndarray) -> Model:
    """Each node is called as its first output is."""
    model = parse(text, **weights)
    for node in model.nodes():
        node.name = node.outputs[0].name
    return model


def test_a_fusion_is_the_new_node_and_those_it_stands_for(
    zoo_model: Callable[[str], Path],
) -> None:
    model = load(zoo_model("cnn_bn"))
    groups = applied(model, "fuse_conv_bn")
    ops = {node.name: node.op_type for node in model.nodes()}
    assert len(groups) == model.op_counts()["BatchNormalization"]
    for group in groups:
        assert [ops[str(name)] for name in group.gone] == ["Conv", "BatchNormalization"]
        assert len(group.made) == 1


def test_what_is_only_taken_away_is_made_into_nothing() -> None:
    model = named("(float[N,3] x) => (float[N,3] y) { a = Identity(x) b = Relu(a) y = Exp(b) }")
    assert applied(model, "eliminate_identity") == (Rewritten(("a",), ()),)


def test_new_nodes_that_follow_one_another_stay_apart() -> None:
    text = "(float[N,3] x) => (float[N,3] y) { a = Neg(x) b = Abs(a) c = Neg(b) y = Abs(c) }"
    model = named(text)
    before = Before(model.ir)
    graph = model.ir.graph
    for name in ("b", "y"):
        last = next(node for node in graph if node.name == name)
        first = last.inputs[0].producer()
        node = ir.node("Relu", first.inputs, name=f"new_{name}")
        graph.insert_before(last, node)
        old = last.outputs[0]
        old.name, node.outputs[0].name = None, old.name
        ir.convenience.replace_all_uses_with(old, node.outputs[0], replace_graph_outputs=True)
        graph.remove([last, first], safe=True)
    assert before.rewritten(model.ir) == (
        Rewritten(("a", "b"), ("new_b",)),
        Rewritten(("c", "y"), ("new_y",)),
    )


def test_a_node_that_took_in_another_is_in_both() -> None:
    model = named("(float[N,3] x) => (float[N,3] y) { a = Mul(x, s) b = MatMul(a, w) y = Exp(b) }",
                  s=np.float32(2), w=W)  # fmt: skip
    before = Before(model.ir)
    graph = model.ir.graph
    product = next(node for node in graph if node.op_type == "MatMul")
    weight = ir.Value(name="w2", const_value=ir.tensor(2 * W))
    graph.register_initializer(weight)
    product.replace_input_with(0, graph.inputs[0])
    product.replace_input_with(1, weight)
    graph.remove(next(node for node in graph if node.op_type == "Mul"), safe=True)
    assert before.rewritten(model.ir) == (Rewritten(("a", "b"), ("b",)),)


def test_a_node_that_is_written_anew_is_the_same() -> None:
    text = "(float[N,3] x) => (float[N,3] y) { a = Softmax<axis=1>(x) y = Exp(a) }"
    model = named(text)
    before = Before(model.ir)
    graph = model.ir.graph
    old = next(iter(graph))
    node = ir.node("Softmax", old.inputs, {"axis": 1})
    graph.insert_before(old, node)
    old.outputs[0].replace_all_uses_with(node.outputs[0])
    graph.remove(old, safe=True)
    assert before.rewritten(model.ir) == ()


def test_the_journal_keeps_it_and_stays_small(zoo_model: Callable[[str], Path]) -> None:
    after = onnxpress.optimize(load(zoo_model("transformer")), target="onnxruntime").model
    entries = after.journal.entries
    assert any(entry.nodes for entry in entries)
    assert Journal.from_json(after.journal.to_json()).entries == entries
    nodes = sum(load(zoo_model("transformer")).op_counts().values())
    assert len(after.journal.to_json()) < 200 * nodes
    assert all("nodes" not in entry.to_dict() for entry in entries)


def test_a_journal_that_would_be_too_large_drops_the_names() -> None:
    journal = Journal()
    half = (Rewritten(("n" * (MOST_LETTERS // 2),), ("m",)),)
    journal.add("one", 1, (), half)
    journal.add("two", 1, (), half)
    assert [bool(entry.nodes) for entry in journal.entries] == [True, False]


@pytest.mark.parametrize("text", ['[{"step":"a","rewrites":1,"nodes":7}]', '[{"step":"a"}]', "7"])
def test_a_journal_that_is_not_ours_is_none(text: str) -> None:
    assert Journal.from_json(text).entries == []


def test_a_way_through_several_passes_is_one_merge() -> None:
    journal = Journal()
    journal.add("one", 1, (), (Rewritten(("a", "b"), ("x",)), Rewritten(("z",), ())))
    journal.add("two", 1, (), (Rewritten(("x", "c"), ("y",)),))
    history = History("abcdz", journal.entries)
    assert list(history.merged) == [(("a", "b", "c"), ("y",))]
    assert history.passes("abc", "y") == ("one", "two")
    assert history.untouched == ("d",)
    assert (history.lost("z"), history.lost("d"), history.made("d")) == (("one",), (), ())
