"""Weights that are tied to a table, in the layout that their product reads."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.passes.transpose_weights import TransposeWeights
from zoo.graphs import answers, apply, parse

TABLE = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
TIED = """(int64[n] ids) => (float[n,50] y) {
    rows = Gather(table, ids)  turned = Transpose <perm = [1, 0]> (table)
    y = MatMul(rows, turned) }"""


def test_a_table_that_is_tied_to_the_output_layer() -> None:
    source = parse(TIED, table=TABLE)
    model, change = apply(TransposeWeights(), source)
    assert change.rewrites == 1
    assert model.op_counts() == {"Gather": 1, "MatMul": 1}
    feeds = {"ids": np.array([3, 49])}
    np.testing.assert_array_equal(answers(model, feeds)[0], answers(source, feeds)[0])
    assert not apply(TransposeWeights(), model)[1].changed


def test_what_nothing_else_reads_leaves_no_copy() -> None:
    text = "(float[n,8] x) => (float[n,50] y) { turned = Transpose(table) y = Gemm(x, turned) }"
    model, change = apply(TransposeWeights(), parse(text, table=TABLE))
    assert change.rewrites == 1
    assert model.weight_bytes == TABLE.nbytes


@pytest.mark.parametrize(
    "body",
    [
        "turned = Transpose(x) y = MatMul(turned, table)",
        "turned = Transpose(table) y = MatMul(turned, x)",
        "turned = Transpose(table) z = MatMul(x, turned) y = Add(z, turned)",
        "y = Transpose(table)",
    ],
)
def test_others_stay(body: str) -> None:
    source = parse(f"(float[8,50] x) => (float[a,b] y) {{ {body} }}", table=TABLE)
    assert not apply(TransposeWeights(), source)[1].changed
