"""Every exporter writes what its engine runs, with the ONNX model's answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

import zoo
from onnxpress import api, registry
from onnxpress.errors import EngineError, InputError, MissingExtra, OnnxpressError
from onnxpress.exporter import Exporter
from onnxpress.exporters import _onnx2tf
from onnxpress.model import load

NAMES = registry.names("exporters")
UNSUPPORTED = {
    ("tensorflow", "lstm"): "LSTM",
    ("tflite", "lstm"): "LSTM",
}
"""What a format cannot hold, and what is told."""
FAST = {"cnn", "lstm", "mlp"}
PAIRS = [
    # onnx2tf imports and writes for seconds a model.
    pytest.param(name, model, marks=pytest.mark.slow)
    if name in {"tensorflow", "tflite"} and not (name == "tflite" and model in FAST)
    else (name, model)
    for name in NAMES
    for model in zoo.names()
]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An exporter; skipped where what it needs is not installed."""
    chosen = str(request.param)
    if chosen in {"tensorflow", "tflite"}:
        try:
            _onnx2tf.require("tensorflow", "tf_keras")
        except MissingExtra as error:
            pytest.skip(str(error))
    return chosen


def output_of(name: str, stem: str) -> str:
    """A file name of the format."""
    return f"{stem}{registry.create(Exporter, 'exporters', name).suffix}"


@pytest.mark.parametrize(("name", "model"), PAIRS, indirect=["name"])
def test_the_zoo_goes_out_and_answers_the_same(
    name: str, model: str, zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / output_of(name, model)
    if told := UNSUPPORTED.get((name, model)):
        with pytest.raises(EngineError, match=told):
            api.export(zoo_model(model), name, output)
        assert list(tmp_path.iterdir()) == []
        return
    result = api.export(zoo_model(model), name, output)
    assert result.verified.ok
    assert [case.shapes["input"][0] for case in result.verified.cases] == [1, 2, 5]
    assert set(result.files) == {path for path in tmp_path.rglob("*") if path.is_file()}
    assert result.size_bytes == sum(path.stat().st_size for path in result.files)
    if output.suffix:
        assert result.files[0] == output
    else:
        assert output.is_dir()


@pytest.mark.parametrize("name", ["openvino", "ort"])
def test_a_folder_for_the_file(name: str, zoo_model: Callable[[str], Path], tmp_path: Path) -> None:
    result = api.export(zoo_model("mlp"), name, tmp_path / "folder")
    assert result.files[0] == tmp_path / "folder" / output_of(name, "model")


@pytest.mark.parametrize("name", NAMES, indirect=True)
def test_other_answers_write_nothing(
    name: str,
    zoo_model: Callable[[str], Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = type(registry.create(Exporter, "exporters", name))
    honest = kind.write
    changed = load(zoo_model("mlp"))
    weight = next(v for v in changed.ir.graph.initializers.values() if len(v.shape or ()) == 2)
    assert weight.const_value is not None
    weight.const_value = ir.tensor(-weight.const_value.numpy(), name=weight.name)
    folder = tmp_path_factory.mktemp("other")
    other = changed.save(folder / "other.onnx")

    def write(self: Exporter, model: Path, output: Path) -> tuple[Path, ...]:
        return honest(self, other, output)

    monkeypatch.setattr(kind, "write", write)
    result = api.export(zoo_model("mlp"), name, tmp_path / "out")
    assert not result.verified.ok
    assert result.files == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES, indirect=True)
def test_where_it_cannot_be_written(
    name: str, zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "no" / "such", tmp_path / "file"):
        with pytest.raises(InputError, match="--output"):
            api.export(zoo_model("mlp"), name, output)


def test_an_unknown_format(zoo_model: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(OnnxpressError, match="unknown exporter 'onnxjs'"):
        api.export(zoo_model("mlp"), "onnxjs", tmp_path / "x")
