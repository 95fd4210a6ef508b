"""Every exporter writes what its engine runs, with the ONNX model's answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

import zoo
from onnxpress import api, registry
from onnxpress.errors import InputError, OnnxpressError
from onnxpress.exporter import Exporter
from onnxpress.model import load

NAMES = registry.names("exporters")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", zoo.names())
def test_the_zoo_goes_out_and_answers_the_same(
    name: str, model: str, zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    suffix = registry.create(Exporter, "exporters", name).suffix
    result = api.export(zoo_model(model), name, tmp_path / f"{model}{suffix}")
    assert result.verified.ok
    assert result.files[0] == tmp_path / f"{model}{suffix}"
    assert set(result.files) == set(tmp_path.iterdir())
    assert result.size_bytes == sum(path.stat().st_size for path in result.files)
    again = api.export(zoo_model(model), name, tmp_path / "folder")
    assert again.files[0] == tmp_path / "folder" / f"model{suffix}"


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
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
