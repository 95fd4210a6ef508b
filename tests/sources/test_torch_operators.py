"""Operators of the user's own: translated by the user's ONNX function, or named."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxpress import api
from onnxpress.errors import SourceError

NET = """
import onnxscript
import torch
from onnxscript import opset18 as op


@torch.library.custom_op("LIBRARY::soft_clip", mutates_args=())
def soft_clip(x: torch.Tensor, limit: float) -> torch.Tensor:
    return limit * torch.tanh(x / limit)


@soft_clip.register_fake
def _(x, limit):
    return torch.empty_like(x)


@onnxscript.script(onnxscript.values.Opset("LIBRARY", 1))
def soft_clip_onnx(x, limit: float):
    bound = op.CastLike(op.Constant(value_float=limit), x)
    return op.Mul(bound, op.Tanh(op.Div(x, bound)))


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, x):
        return soft_clip(self.fc(x), 0.5)


def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), Block(), Block()), torch.randn(2, 4)
"""
TABLE = "custom_translation_table = {torch.ops.LIBRARY.soft_clip.default: soft_clip_onnx}\n"


def written(folder: Path, library: str, text: str) -> str:
    path = folder / f"{library}.py"
    path.write_text(text.replace("LIBRARY", library), encoding="utf-8")
    return f"torch:{path}:make"


def test_the_users_function_becomes_standard_operators(tmp_path: Path) -> None:
    result = api.convert(written(tmp_path, "translated", NET + TABLE))
    assert result.verified is not None
    assert result.verified.ok
    assert result.exporter == "dynamo"
    assert set(result.model.op_counts()) == {"Gemm", "Div", "Tanh", "Mul"}
    assert set(result.model.ir.opset_imports) == {""}
    assert not result.model.ir.functions


def test_a_wrong_function_is_found(tmp_path: Path) -> None:
    wrong = (NET + TABLE).replace("op.Tanh(op.Div(x, bound))", "op.Tanh(x)")
    result = api.convert(written(tmp_path, "wrong", wrong))
    assert result.verified is not None
    assert not result.verified.ok


def test_without_a_function_the_operator_and_its_layer_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as raised:
        api.convert(written(tmp_path, "untold", NET))
    text = str(raised.value)
    assert "untold::soft_clip, which the layer 1 (Block) calls" in text
    assert "write custom_translation_table = {torch.ops.untold.soft_clip.default:" in text


def test_a_table_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"custom_translation_table of .* is list"):
        api.convert(written(tmp_path, "odd", NET + "custom_translation_table = []\n"))
