"""Factories in the user's files, and the checkpoints that they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onnxpress import api
from onnxpress.errors import InputError, OnnxpressError, SourceError
from onnxpress.source import OpenOptions, open_source

FILE = """
import torch
from torch import nn
from sibling import WIDTH

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU()), torch.ones(1, WIDTH)

def bare():
    return nn.Linear(4, 3)

def other():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU()), torch.ones(1, WIDTH)

def needs(argument):
    return nn.Linear(4, 3)

def text():
    return "a model"

crashes = lambda: 1 / 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "sibling.py").write_text("WIDTH = 4\n", encoding="utf-8")
    path = tmp_path / "mine.py"
    path.write_text(FILE, encoding="utf-8")
    return path


class TestFactory:
    def test_a_file_with_a_sibling(self, file: Path, tmp_path: Path) -> None:
        result = api.convert(f"torch:{file}:make")
        assert result.verified is not None
        assert result.verified.ok
        saved = result.model.save(tmp_path / "m.onnx").read_bytes()
        for folder in (tmp_path, Path.home(), Path(torch.__file__).parent):
            assert str(folder).encode() not in saved, "a path of this machine is in the model"

    def test_torchscript_leaves_no_path_either(self, file: Path, tmp_path: Path) -> None:
        result = api.convert(f"torch:{file}:make", exporter="torchscript")
        saved = result.model.save(tmp_path / "m.onnx").read_bytes()
        for folder in (tmp_path, Path.home(), Path(torch.__file__).parent):
            assert str(folder).encode() not in saved

    def test_a_module_of_the_current_folder(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = file.parent / "my_package_of_nets"
        package.mkdir()
        (package / "__init__.py").write_text("", encoding="utf-8")
        (package / "net.py").write_text("from mine import make\n", encoding="utf-8")
        monkeypatch.chdir(file.parent)
        monkeypatch.syspath_prepend(str(file.parent))
        with open_source("torch:my_package_of_nets.net:make") as opened:
            assert opened.kind == "torch"

    def test_inputs_come_from_the_flag(self, file: Path) -> None:
        from onnxpress.options import parse_inputs

        inputs = parse_inputs(["input:float32[batch,4]"])
        result = api.convert(f"torch:{file}:bare", inputs=inputs)
        assert result.model.signature.inputs[0].shape == ("batch", 4)
        with pytest.raises(InputError, match="--input NAME:DTYPE"):
            api.convert(f"torch:{file}:bare")

    @pytest.mark.parametrize(
        ("ref", "expected"),
        [
            (
                "{file}:needs",
                "needs takes .argument.; expected a factory that is called without",
            ),
            ("{file}:text", "returned a str; expected a torch.nn.Module"),
            ("{file}:crashes", r"ZeroDivisionError: division by zero \(mine.py, line"),
            ("{file}:absent", "no factory 'absent'; expected one of .*make"),
            ("{folder}/syntax.py:make", "raised SyntaxError"),
            ("{folder}/gone.py:make", "does not exist"),
            ("no.such.package:make", "ModuleNotFoundError"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, file: Path, ref: str, expected: str) -> None:
        (file.parent / "syntax.py").write_text("def make(:\n", encoding="utf-8")
        with pytest.raises(OnnxpressError, match=expected) as caught:
            open_source("torch:" + ref.format(file=file, folder=file.parent))
        assert "\n" not in str(caught.value)

    def test_the_fingerprint_is_of_weights_and_code(self, file: Path) -> None:
        def fingerprint(name: str) -> str:
            with open_source(f"torch:{file}:{name}") as opened:
                return opened.fingerprint()

        first = fingerprint("make")
        assert first == fingerprint("make")
        assert first != fingerprint("other")
        file.write_text(FILE + "\nEXTRA = 1\n", encoding="utf-8")
        assert first != fingerprint("make")


class TestCheckpoint:
    def weights(self, folder: Path, module: nn.Module, name: str) -> Path:
        torch.save(module.state_dict(), folder / name)
        return folder / name

    @pytest.mark.parametrize("saved", ["bare", "wrapped", "parallel"])
    def test_weights_are_loaded(self, file: Path, tmp_path: Path, saved: str) -> None:
        module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        state = (nn.DataParallel(module) if saved == "parallel" else module).state_dict()
        torch.save({"state_dict": state} if saved == "wrapped" else state, tmp_path / "w.pt")
        options = OpenOptions(checkpoint=tmp_path / "w.pt")
        with open_source(f"torch:{file}:make", options) as opened, opened.session() as session:
            x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
            with torch.inference_mode():
                expected = module(torch.from_numpy(x)).numpy()
            np.testing.assert_allclose(session.run({"input": x})["output"], expected, rtol=1e-6)

    def test_safetensors(self, file: Path, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        save_file(module.state_dict(), tmp_path / "w.safetensors")
        options = OpenOptions(checkpoint=tmp_path / "w.safetensors")
        with open_source(f"torch:{file}:make", options) as opened:
            assert opened.fingerprint()

    def test_code_in_a_checkpoint_is_not_run(self, file: Path, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return (Path.touch, (Path(tmp_path / "exploded"),))  # type: ignore[return-value]

        torch.save(Bomb(), tmp_path / "bomb.pt")
        options = OpenOptions(checkpoint=tmp_path / "bomb.pt")
        with pytest.raises(SourceError, match="cannot be read as weights"):
            open_source(f"torch:{file}:make", options)
        assert not (tmp_path / "exploded").exists()

    def test_a_whole_module_is_no_checkpoint(self, file: Path, tmp_path: Path) -> None:
        torch.save(nn.Linear(4, 3), tmp_path / "whole.pt")
        with pytest.raises(SourceError, match=r"\(it holds a torch.nn.modules.linear.Linear\)"):
            open_source(f"torch:{file}:make", OpenOptions(checkpoint=tmp_path / "whole.pt"))

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
    def test_a_broken_file(self, file: Path, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(SourceError, match="cannot be read as weights") as caught:
            open_source(f"torch:{file}:make", OpenOptions(checkpoint=tmp_path / name))
        assert "\n" not in str(caught.value)

    def test_what_does_not_fit(self, file: Path, tmp_path: Path) -> None:
        path = self.weights(tmp_path, nn.Linear(5, 5), "w.pt")
        with pytest.raises(SourceError, match="does not fit the model"):
            open_source(f"torch:{file}:make", OpenOptions(checkpoint=path))
        with pytest.raises(InputError, match="does not exist"):
            open_source(f"torch:{file}:make", OpenOptions(checkpoint=tmp_path / "no.pt"))
