"""Exports appear whole or not at all, and what cannot be written is one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from onnxpress import api
from onnxpress.errors import EngineError, InputError


def test_a_folder_that_cannot_be_written_is_one_line(zoo_model: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"cannot write /proc/m\.ort \(No such file"):
        api.export(zoo_model("mlp"), "ort", "/proc/m.ort")


def test_an_interrupted_export_leaves_the_old_one(
    zoo_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    api.export(zoo_model("mlp"), "openvino", tmp_path / "m.xml")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"m.xml", "m.bin"}
    real, copied = shutil.copyfile, []

    def stops(source: Path, target: Path) -> object:
        copied.append(target)
        if len(copied) == 2:
            raise KeyboardInterrupt
        return real(source, target)

    monkeypatch.setattr(shutil, "copyfile", stops)
    with pytest.raises(KeyboardInterrupt):
        api.export(zoo_model("cnn"), "openvino", tmp_path / "m.xml")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_ort_takes_no_custom_operators(tmp_path: Path) -> None:
    node = helper.make_node("NegPos", ["x"], ["a", "b"], domain="ai.onnx.contrib")
    x, a, b = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xab"
    )
    graph = helper.make_graph([node], "g", [x], [a, b])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.contrib", 1)]
    save(helper.make_model(graph, opset_imports=imports, ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(EngineError, match=r"operator ai\.onnx\.contrib:NegPos is none of ONNX Run"):
        api.export(tmp_path / "m.onnx", "ort", tmp_path / "m.ort")
    assert not (tmp_path / "m.ort").exists()
