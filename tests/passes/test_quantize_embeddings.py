"""Tables of embeddings in int8."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxpress.model import Model
from onnxpress.passes.quantize_embeddings import LEAST_BYTES, QuantizeEmbeddings
from onnxpress.recipe import Change
from onnxpress.verbs.scales import scales
from zoo.graphs import Array, answers, apply, openvino_answers, parse

ROWS, COLUMNS = 1024, 64
ONE = "(int64[batch,n] ids) => (float[batch,n,64] y) { e = Gather(table, ids) y = Relu(e) }"
IDS = np.array([[0, ROWS - 1, 5], [7, 7, -1]])


def drawn(rows: int = ROWS) -> Array:
    """Columns of different size."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((rows, COLUMNS)) * rng.uniform(0.01, 3, COLUMNS)
    return table.astype(np.float32)


def applied(source: Model, exclude: tuple[str, ...] = ()) -> tuple[Model, Change]:
    return apply(QuantizeEmbeddings(exclude=exclude), source)


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.ir.graph]


@pytest.mark.parametrize("run", [answers, openvino_answers])
def test_rows_are_off_by_half_a_step(run) -> None:  # type: ignore[no-untyped-def]
    table = drawn()
    source = parse(ONE, table=table)
    rows = next(iter(source.ir.graph)).outputs[0]
    rows.type = ir.TensorType(ir.DataType.FLOAT)
    model, change = applied(source)
    assert rows.dtype == ir.DataType.FLOAT
    assert operators(model) == ["Gather", "DequantizeLinear", "Relu"]
    assert change == Change(1)
    ids = IDS if run is answers else np.abs(IDS)
    (found,) = run(model, {"ids": ids})
    step = np.abs(table).max(axis=0) / 127
    assert (np.abs(found - np.maximum(table[ids], 0)) <= step * 0.501).all()
    (scale,) = scales(model)
    assert (scale.dtype, scale.per, scale.count) == ("int8", "channel", COLUMNS)


def test_all_readers_share_one_table() -> None:
    text = """(int64[n] a, int64[batch,n] b) => (float[batch,n,64] y) {
        left = Gather(table, a) right = Gather <axis = -2> (table, b) y = Add(left, right) }"""
    model, change = applied(parse(text, table=drawn()))
    assert change.rewrites == 2
    assert sorted(operators(model)) == ["Add", *["DequantizeLinear"] * 2, *["Gather"] * 2]
    tables = [v for v in model.ir.graph.initializers.values() if v.shape == (ROWS, COLUMNS)]
    assert [value.dtype for value in tables] == [ir.DataType.INT8]


def test_a_branch_reads_the_table_around_it() -> None:
    text = """(bool c, int64[n] ids) => (float[n,64] y) {
        y = If (c) <
            then_branch = t () => (float[n,64] u) { e = Gather(table, ids) u = Neg(e) },
            else_branch = f () => (float[n,64] v) { d = Gather(table, ids) v = Abs(d) }> }"""
    source = parse(text, table=drawn())
    model, change = applied(source)
    assert change.rewrites == 2
    for choice in (True, False):
        feeds = {"c": np.array(choice), "ids": np.array([3, 4])}
        np.testing.assert_allclose(answers(model, feeds)[0], answers(source, feeds)[0], atol=0.05)


OTHERS = {
    "small": (drawn(LEAST_BYTES // 4 // COLUMNS - 1), ONE),
    "columns": (
        drawn(),
        "(int64[n] ids) => (float[1024,n] y) { e = Gather <axis = 1> (table, ids) y = Abs(e) }",
    ),
    "tied": (
        drawn(),
        "(int64[n] ids, float[n,1024] x) => (float[n,64] y)"
        " { e = Gather(table, ids) p = MatMul(x, table) y = Add(e, p) }",
    ),
    "an output": (drawn(), "(int64[n] ids) => (float[n,64] y) { y = Gather(table, ids) }"),
    "huge": (np.where(drawn() > 8, 3e38, drawn()).astype(np.float32), ONE),
    "infinite": (np.where(drawn() > 8, np.inf, drawn()).astype(np.float32), ONE),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_others_stay(kind: str) -> None:
    table, text = OTHERS[kind]
    model, change = applied(parse(text, table=table))
    assert not change.changed
    assert "DequantizeLinear" not in operators(model)


@pytest.mark.parametrize("kind", ["outlier", "offset", "mask"])
def test_what_would_ruin_columns_stays_float(kind: str) -> None:
    table = drawn()
    if kind == "outlier":
        table[3, 9] = 1e4
    elif kind == "offset":
        table += 100
    else:
        table[np.arange(ROWS)[:, None] < 16 * np.arange(COLUMNS)] = -1e9
    source = parse(ONE, table=table)
    (gather, _) = source.ir.graph
    gather.name = "words"
    _, change = applied(source)
    why = "words: rounding would make too much noise of its table"
    assert change == Change(0, (why,))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("tied", "MatMul 'products' reads its table in float"),
        ("an output", "its rows are an output"),
    ],
)
def test_why_a_table_stays(kind: str, why: str) -> None:
    table, text = OTHERS[kind]
    source = parse(text, table=table)
    for node, name in zip(source.ir.graph, ("words", "products"), strict=False):
        node.name = name
    _, change = applied(source)
    assert change == Change(0, (f"words: {why}",))


def test_excluded_nodes_keep_their_table() -> None:
    source = parse(ONE, table=drawn())
    (gather, _) = source.ir.graph
    gather.name = "words"
    assert not applied(source, exclude=("words",))[1].changed
