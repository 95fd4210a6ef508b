"""ONNX Runtime's own operators in half precision, as optimize for it writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zoo
from onnxpress.model import load
from onnxpress.recipe import Recipe
from zoo.graphs import answers
from zoo.halves import HALF, both, narrowed


@pytest.mark.parametrize("name", ["transformer", "transformer_torchscript"])
def test_fused_transformers(name: str, zoo_model: Callable[[str], Path]) -> None:
    from onnxpress.verbs.optimize import RECIPES, optimize

    source = load(zoo_model(name))
    fused = optimize(source, None, Recipe.parse(RECIPES["onnxruntime"])).model
    feeds = zoo.feeds(source.signature, 3)
    after, change = narrowed(fused, feeds)
    kinds = {node.op_type: node.outputs[0].dtype for node in after.nodes() if node.domain}
    assert set(kinds.values()) <= {HALF, None}
    assert "MultiHeadAttention" in kinds or "Attention" in kinds
    assert change.changed
    expected = answers(source, feeds)[0]
    for got in both(after, feeds):
        np.testing.assert_allclose(got[0], expected, atol=0.01 * np.abs(expected).max())


def test_the_list_is_onnx_runtimes() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    from onnxpress.passes import _half_slots as slots

    halves: dict[str, set[str]] = {}
    for kernel in runtime.get_all_operator_schema():
        if kernel.domain == "com.microsoft" or kernel.name in slots.UNDECLARED:
            found = {kind for c in kernel.type_constraints for kind in c.allowed_type_strs}
            halves[kernel.name] = {"tensor(float16)", "tensor(bfloat16)"} & found
    for name in slots.CONTRIB_OPERATORS:
        assert len(halves[name]) == 2, name
    for name in slots.FLOAT16_CONTRIB:
        assert "tensor(float16)" in halves[name], name
