"""Differences are told by what nodes compute: renamed models are equal, merged nodes are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import onnxpress
from conftest import Shell
from onnxpress.lineage import Rewritten
from onnxpress.model import Model, load
from onnxpress.recipe import Recipe
from onnxpress.verbs.diff import Difference, Merged, diff
from zoo.disguise import disguise
from zoo.graphs import parse

ZooModel = Callable[[str], Path]

CHAIN = "(float[N,3] x) => (float[N,3] y) { a = Mul(x, w) b = Add(a, v) c = Relu(b) y = Tanh(c) }"
WEIGHTS = {"w": np.array([1, 2, 3], np.float32), "v": np.ones(3, np.float32)}


def chain(text: str = CHAIN, **weights: np.ndarray) -> Model:
    return parse(text, **{**WEIGHTS, **weights})


def renamed(model: Model, seed: int = 3) -> Model:
    """Other names of nodes, values, inputs and outputs, another order, swapped operands."""
    return Model(ir.from_proto(disguise(ir.to_proto(model.ir), seed)))


def ops(group: Merged) -> tuple[list[str], list[str]]:
    return sorted(node.op for node in group.before), sorted(node.op for node in group.after)


def kinds(difference: Difference) -> list[tuple[str, str]]:
    return [(change.kind, change.what) for change in difference.changed]


@pytest.mark.parametrize(
    "name", ["cnn", "cnn_bn", "lstm", "mlp", "transformer", "transformer_torchscript"]
)
def test_a_model_is_its_own_equal_under_any_name(name: str, zoo_model: ZooModel) -> None:
    model = load(zoo_model(name))
    same = diff(model, model)
    assert same.equal
    assert same.renamed == {}
    assert same.nodes == (same.same, same.same)
    other = diff(model, renamed(model))
    assert other.equal, other
    assert len(other.renamed) == len(model.signature.inputs) + len(model.signature.outputs)


@pytest.mark.parametrize("called_anew", [False, True])
def test_conv_and_batch_normalization_merged(called_anew: bool, zoo_model: ZooModel) -> None:
    model = load(zoo_model("cnn_bn"))
    before = model.op_counts()["BatchNormalization"]
    after, change = Recipe.parse("fuse_conv_bn").apply(model)
    assert change.rewrites == before
    found = diff(model, renamed(after) if called_anew else after)
    assert [ops(group) for group in found.merged] == [
        (["BatchNormalization", "Conv"], ["Conv"])
    ] * before
    assert (found.added, found.removed, kinds(found)) == ((), (), [])
    if not called_anew:
        assert found.journal == ({"step": "fuse_conv_bn", "rewrites": before},)


def test_attention_of_a_transformer_merged(zoo_model: ZooModel) -> None:
    model = load(zoo_model("transformer"))
    after = onnxpress.optimize(model, target="onnxruntime").model
    found = diff(model, after)
    into = Counter(node.op for group in found.merged for node in group.after)
    fused = {op.rpartition("::")[2]: n for op, n in after.op_counts().items() if "::" in op}
    assert fused
    assert {op: into[op] for op in fused} == fused
    softmax = model.op_counts()["Softmax"]
    assert sum(node.op == "Softmax" for group in found.merged for node in group.before) == softmax
    names = [node.node for group in found.merged for node in group.before]
    assert len(names) == len(set(names)), "no node merges into two"


def test_each_merge_names_the_passes_that_made_it(zoo_model: ZooModel) -> None:
    model = load(zoo_model("transformer_torchscript"))
    after = onnxpress.optimize(model, target="onnxruntime").model
    found = diff(model, after)
    assert all(group.passes for group in found.merged), found.merged
    fused = [g for g in found.merged if any("Attention" in node.op for node in g.after)]
    assert fused
    assert all("fuse_attention" in group.passes for group in fused)
    assert found.removed
    assert all(node.passes for node in found.removed)


def test_a_journal_that_the_graphs_do_not_bear_out_is_not_believed() -> None:
    after = chain()
    told = (Rewritten(("n0", "n1"), ("n2",)), Rewritten(("n9",), ("n3",)))
    after.journal.add("a_lie", 2, (), told)
    for model in (before := chain(), after):
        for index, node in enumerate(model.nodes()):
            node.name = f"n{index}"
    assert diff(before, after).equal


def test_a_journal_does_not_pair_nodes_whose_names_changed_places() -> None:
    text = "(float[N,3] x) => (float[N,3] y, float[N,3] z) { y = Mul(x, w) z = Mul(x, v) }"
    before, after = chain(text), chain(text)
    for model, names in ((before, ("n0", "n1")), (after, ("n1", "n0"))):
        for node, name in zip(model.nodes(), names, strict=True):
            node.name = name
    after.journal.add("another", 1, (), (Rewritten(("n9",), ("n8",)),))
    assert diff(before, after).equal


def test_what_another_optimiser_fused_is_found_by_its_names() -> None:
    """As ONNX Runtime writes it: the convolution's name, the activation's output."""
    weights = {
        f"w{i}": np.random.default_rng(i).normal(size=(3, 3, 1, 1)).astype(np.float32)
        for i in range(3)
    }
    one = "(float[N,3,4,4] x) => (float[N,3,4,4] y) {"
    two = one
    for i, (read, made) in enumerate([("x", "b0"), ("b0", "b1"), ("b1", "y")]):
        one += f" a{i} = Conv({read}, w{i}) {made} = Relu(a{i})"
        two += f" {made} = com.microsoft.FusedConv({read}, w{i})"
    found = diff(parse(one + " }", **weights), parse(two + " }", **weights))
    assert [ops(group) for group in found.merged] == [(["Conv", "Relu"], ["FusedConv"])] * 3
    assert (found.added, found.removed) == ((), ())


def test_the_files_that_onnxruntime_writes_are_followed(
    zoo_model: ZooModel, tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "after.onnx")
    options.log_severity_level = 3
    path = zoo_model("cnn_bn")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    before, after = load(path), load(tmp_path / "after.onnx")
    found = diff(before, after)
    merged = [node.op for group in found.merged for node in group.before]
    assert merged.count("BatchNormalization") == before.op_counts()["BatchNormalization"]
    assert len(found.merged) >= before.op_counts()["BatchNormalization"]


def test_weights_find_nodes_between_changed_ones() -> None:
    """Other names all over, and each product between an activation and another one."""
    text = "(float[N,4] x) => (float[N,4] y) {{ a0 = {0}(x) {1} y = {0}(a12) }}"
    body = " ".join(f"m{i} = MatMul(a{i}, w{i}) t{i} = Exp(m{i}) a{i + 1} = {{0}}(t{i})"
                    for i in range(12))  # fmt: skip
    weights = {
        f"w{i}": np.random.default_rng(i).normal(size=(4, 4)).astype(np.float32) for i in range(12)
    }
    one, two = (parse(text.format(op, body.format(op)), **weights) for op in ("Sin", "Cos"))
    found = diff(one, renamed(two))
    gone = {node.op for group in found.merged for node in group.before}
    assert gone | {node.op for node in found.removed} == {"Sin"}
    assert found.same == 24


def test_what_is_computed_once_behind_a_change() -> None:
    twice = """(float[N,3] x) => (float[N,3] y)
               { h = Sin(x) a = Exp(h) b = Exp(h) c = Neg(a) d = Abs(b) y = Mul(c, d) }"""
    once = """(float[N,3] x) => (float[N,3] y)
              { h = Cos(x) a = Exp(h) c = Neg(a) d = Abs(a) y = Mul(c, d) }"""
    found = diff(parse(twice), parse(once))
    assert (["Exp", "Exp"], ["Exp"]) in [ops(group) for group in found.merged]
    assert [kind for kind, _ in kinds(found)] == []


def test_weights_say_how_many_and_by_how_much() -> None:
    found = diff(chain(), chain(w=np.array([1, 2.5, 3], np.float32)))
    [change] = found.changed
    assert (change.kind, change.elements, change.size, change.max_abs_diff) == (
        "weights",
        1,
        3,
        0.5,
    )
    assert not found.equal
    assert (found.added, found.removed, found.merged) == ((), (), ())


def test_weights_of_another_shape() -> None:
    text = "(float[N,3] x) => (float[N,M] y) { y = MatMul(x, w) }"
    one, two = (parse(text, w=np.ones((3, size), np.float32)) for size in (2, 4))
    [change] = diff(one, two).changed
    assert (change.before, change.after, change.elements) == ("float[3, 2]", "float[3, 4]", None)


def test_shared_weights_are_told_once() -> None:
    text = "(float[N,3] x) => (float[N,3] y) { a = Mul(x, w) b = Relu(a) y = Mul(b, w) }"
    one, two = (parse(text, w=np.full(3, value, np.float32)) for value in (2, 3))
    assert kinds(diff(one, two)) == [("weights", "w")]


@pytest.mark.parametrize("called_anew", [False, True])
def test_a_node_that_is_gone_is_removed_and_the_way_back_it_is_added(called_anew: bool) -> None:
    without = chain(CHAIN.replace("c = Relu(b) y = Tanh(c)", "y = Tanh(b)"))
    other = renamed(without) if called_anew else without
    gone = diff(chain(), other)
    assert [node.op for node in gone.removed] == ["Relu"]
    assert (gone.added, gone.changed, gone.merged, gone.same) == ((), (), (), 3)
    back = diff(other, chain())
    assert [node.op for node in back.added] == ["Relu"]
    assert back.removed == ()


def test_attributes_but_not_defaults_that_are_written_out() -> None:
    text = "(float[N,3] x) => (float[N,3] y) {{ a = LeakyRelu{}(x) y = Softmax{}(a) }}"
    plain = parse(text.format("", ""))
    assert diff(plain, parse(text.format("<alpha=0.01>", "<axis=-1>"))).equal
    [change] = diff(plain, parse(text.format("<alpha=0.5>", ""))).changed
    assert (change.kind, change.what, change.before, change.after) == (
        "attribute", "alpha", "", "0.5",
    )  # fmt: skip


def test_a_node_that_reads_something_else() -> None:
    text = (
        "(float[N,3] x) => (float[N,3] y) {{ a = Relu(x) b = Tanh(x) c = Exp(a) y = Sub({}, b) }}"
    )
    found = diff(parse(text.format("c")), parse(text.format("a")))
    assert not found.equal
    assert all(change.before != change.after for change in found.changed)
    told = {node.op for node in found.removed} | {kind for kind, _ in kinds(found)}
    assert told & {"Exp", "input"}


def test_what_is_computed_once_now() -> None:
    twice = "(float[N,3] x) => (float[N,3] y) { a = Exp(x) b = Exp(x) c = Neg(a) y = Mul(b, c) }"
    once = "(float[N,3] x) => (float[N,3] y) { a = Exp(x) c = Neg(a) y = Mul(a, c) }"
    [group] = diff(parse(twice), parse(once)).merged
    assert ops(group) == (["Exp", "Exp"], ["Exp"])


def test_what_is_a_constant_now() -> None:
    text = """(float[2,6] x) => (float[3,4] y)
              { s = Constant<value_ints=[3]>() t = Constant<value_ints=[4]>()
                r = Concat<axis=0>(s, t) y = Reshape(x, r) }"""
    folded = "(float[2,6] x) => (float[3,4] y) { y = Reshape(x, r) }"
    found = diff(parse(text), parse(folded, r=np.array([3, 4])))
    [group] = found.merged
    assert sorted(node.op for node in group.before) == ["Concat", "Constant", "Constant"]
    assert (group.after, group.constants) == ((), ("r",))
    assert (found.added, found.removed, found.changed) == ((), (), ())


def test_a_constant_may_be_a_node_or_an_initializer() -> None:
    node = "(float[N,3] x) => (float[N,3] y) { c = Constant<value_float=2.0>() y = Mul(x, c) }"
    initializer = "(float[N,3] x) => (float[N,3] y) { y = Mul(x, c) }"
    assert diff(parse(node), parse(initializer, c=np.float32(2))).equal


def test_branches_are_compared() -> None:
    text = """(float[N,3] x, bool q) => (float[N,3] y)
              {{ y = If(q)<then_branch = g () => (float[N,3] a) {{ a = Relu(x) }},
                           else_branch = h () => (float[N,3] b) {{ t = {}(x) b = Neg(t) }}> }}"""
    model = parse(text.format("Exp"))
    assert diff(model, renamed(model)).equal
    assert kinds(diff(model, parse(text.format("Tanh")))) == [("attribute", "else_branch")]


def test_loops_are_compared() -> None:
    text = """(float[3] x, int64 n, bool q) => (float[3] y) {{
        y = Loop(n, q, x)<body = g (int64 i, bool c, float[3] a) => (bool d, float[3] b) {{
            d = Identity(c) h = Mul(a, w) b = {}(h) }}> }}"""
    model = parse(text.format("Relu"), w=np.ones(3, np.float32))
    assert diff(model, renamed(model)).equal
    other = parse(text.format("Tanh"), w=np.ones(3, np.float32))
    assert kinds(diff(model, other)) == [("attribute", "body")]
    weights = parse(text.format("Relu"), w=np.zeros(3, np.float32))
    assert not diff(model, weights).equal


def test_signature_opsets_ir_version_and_metadata() -> None:
    other = parse(
        "(float[N,3] x, float[N,3] extra) => (float[N,3] y) "
        "{ a = Mul(x, w) b = Add(a, v) c = Relu(b) y = Tanh(c) }",
        opset=18, ir_version=9, **WEIGHTS,
    )  # fmt: skip
    other.metadata["author"] = "me"
    assert kinds(diff(chain(), other)) == [
        ("signature", "input"),
        ("opset", "opset"),
        ("ir_version", ""),
        ("metadata", "author"),
    ]


def test_two_strangers_share_nothing() -> None:
    found = diff(chain(), parse("(float[N,3] p) => (float[N,3] q) { s = Sin(p) q = Cos(s) }"))
    assert not found.equal
    assert found.same == 0


def test_on_the_screen_and_as_json(shell: Shell, zoo_model: ZooModel, tmp_path: Path) -> None:
    import json

    path = zoo_model("cnn_bn")
    after = Recipe.parse("fuse_conv_bn").apply(load(path))[0].save(tmp_path / "after.onnx")
    code, out, err = shell("diff", path, after)
    assert (code, err) == (0, "")
    assert "Conv + BatchNormalization → Conv  by fuse_conv_bn" in out
    assert out.count("fuse_conv_bn") == 2, "blocks alike are one row"
    assert "steps since: fuse_conv_bn" in out
    assert max(map(len, out.splitlines())) <= 80
    data = json.loads(shell("diff", path, after, "--json")[1])
    assert {"added", "removed", "changed", "merged", "equal"} <= set(data)
    assert data["merged"][0]["into"][0]["op"] == "Conv"
    assert data["merged"][0]["passes"] == ["fuse_conv_bn"]
    assert shell("diff", path, path) == (0, "no difference\n", "")
    code, out, err = shell("diff", path, "none.onnx")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_an_optimised_transformer_is_one_screen(
    shell: Shell, zoo_model: ZooModel, tmp_path: Path
) -> None:
    path = zoo_model("transformer_torchscript")
    after = onnxpress.optimize(load(path), target="onnxruntime").model.save(tmp_path / "after.onnx")
    lines = shell("diff", path, after)[1].splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
    assert len(shell("diff", path, after, "-v")[1].splitlines()) > len(lines)
    assert any("Attention" in line for line in lines)


def test_opsets_that_one_model_asks_for_are_one_row(shell: Shell, tmp_path: Path) -> None:
    other = chain()
    other.ir.opset_imports.update({"com.microsoft": 1, "ai.onnx.ml": 3, "ai.onnx.preview": 1})
    paths = chain().save(tmp_path / "a.onnx"), other.save(tmp_path / "b.onnx")
    out = shell("diff", *paths)[1]
    assert "only after: ai.onnx.ml 3, ai.onnx.preview 1 and 1 more" in out
    assert "com.microsoft 1" in shell("diff", *paths, "-v")[1]
