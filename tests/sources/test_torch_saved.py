"""Files that hold a whole PyTorch model become proven ONNX, or one clear line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from onnxpress import api
from onnxpress.errors import InputError, SourceError
from onnxpress.signature import TensorSpec
from onnxpress.source import OpenOptions, open_source

IMAGE = TensorSpec("x", "float32", ("batch", 3, 16, 16))


class Net(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, 2, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor, extra: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = torch.relu(self.conv(x)).mean((2, 3))
        return {"logits": self.head(torch.cat([pooled, extra], 1)), "pooled": pooled}


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(3)
    return Net().eval()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, ...]:
    return torch.randn(2, 3, 16, 20), torch.randn(2, 1)


def plain() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class TestPrograms:
    @pytest.mark.parametrize("keywords", [False, True])
    def test_free_axes_are_kept(
        self, net: nn.Module, inputs: tuple[torch.Tensor, ...], tmp_path: Path, keywords: bool
    ) -> None:
        batch, height = torch.export.Dim("b"), torch.export.Dim("h", min=4, max=64)
        shapes = {"x": {0: batch, 2: height}, "extra": {0: batch}}
        given = dict(zip(("x", "extra"), inputs, strict=True))
        program = torch.export.export(
            net, () if keywords else inputs, given if keywords else None, dynamic_shapes=shapes
        )
        torch.export.save(program, tmp_path / "net.pt2")
        result = api.convert(tmp_path / "net.pt2")
        assert result.verified is not None
        assert result.verified.ok
        first, second = result.model.signature.inputs
        assert (first.name, first.shape) == ("x", ("batch", 3, "dim_1", 20))
        assert (second.name, second.shape) == ("extra", ("batch", 1))
        assert [spec.name for spec in result.model.signature.outputs] == ["logits", "pooled"]
        shapes_seen = [case.shapes["x"] for case in result.verified.cases]
        assert shapes_seen == [(1, 3, 16, 20), (2, 3, 16, 20), (5, 3, 16, 20), (2, 3, 8, 20),
                               (2, 3, 24, 20)]  # fmt: skip

    def test_a_fixed_batch_is_told(
        self, net: nn.Module, inputs: tuple[torch.Tensor, ...], tmp_path: Path
    ) -> None:
        torch.export.save(torch.export.export(net, inputs), tmp_path / "net.pt2")
        result = api.convert(f"torch:{tmp_path / 'net.pt2'}")
        assert "takes no other batch size" in str(result.fallback_reason)
        assert result.verified is not None
        assert result.verified.ok

    @pytest.mark.parametrize("size", [0, 10, 3000])
    def test_cut_files(
        self, net: nn.Module, inputs: tuple[torch.Tensor, ...], tmp_path: Path, size: int
    ) -> None:
        torch.export.save(torch.export.export(net, inputs), tmp_path / "net.pt2")
        cut = tmp_path / "cut.pt2"
        cut.write_bytes((tmp_path / "net.pt2").read_bytes()[:size])
        with pytest.raises(SourceError, match="cannot be read as an exported program") as caught:
            open_source(cut)
        assert "\n" not in str(caught.value)


class TestScripts:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        path = tmp_path / "net.ts"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(plain(), torch.randn(2, 3, 16, 16))
            torch.jit.save(traced, path)
        return path

    @pytest.mark.parametrize("options", [{"inputs": [IMAGE]}, {"preprocess": "size=16"}])
    @pytest.mark.parametrize("suffix", [".ts", ".pt"])
    def test_it_is_converted(self, script: Path, options: dict[str, object], suffix: str) -> None:
        path = script.rename(script.with_suffix(suffix))
        result = api.convert(path, **options)  # type: ignore[arg-type]
        assert result.exporter == "torchscript"
        assert str(result.fallback_reason).startswith("dynamo: ")
        assert result.verified is not None
        assert result.verified.ok
        assert result.model.signature.dynamic_batch

    def test_what_it_takes_must_be_told(self, script: Path) -> None:
        with pytest.raises(InputError, match=r"nothing says what .* takes"):
            open_source(script)


class TestPickles:
    def test_only_trusted_ones_are_read(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[object, ...]]:
                return (Path.touch, (tmp_path / "exploded",))

        torch.save(Bomb(), tmp_path / "bomb.pt")
        with pytest.raises(InputError, match=r"holds pickled Python.*--trust"):
            open_source(tmp_path / "bomb.pt")
        assert not (tmp_path / "exploded").exists()

    def test_a_pickle_inside_a_program_is_not_run(
        self, net: nn.Module, inputs: tuple[torch.Tensor, ...], tmp_path: Path
    ) -> None:
        import io
        import zipfile

        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[object, ...]]:
                return (Path.touch, (tmp_path / "exploded",))

        torch.export.save(torch.export.export(net, inputs), tmp_path / "net.pt2")
        bomb = io.BytesIO()
        torch.save(Bomb(), bomb)
        with (
            zipfile.ZipFile(tmp_path / "net.pt2") as old,
            zipfile.ZipFile(tmp_path / "bomb.pt2", "w") as new,
        ):
            for name in old.namelist():
                changed = "sample_inputs" in name and name.endswith(".pt")
                new.writestr(name, bomb.getvalue() if changed else old.read(name))
        with pytest.raises(SourceError, match="cannot be read as an exported program"):
            open_source(tmp_path / "bomb.pt2")
        assert not (tmp_path / "exploded").exists()

    def test_a_trusted_module(self, tmp_path: Path) -> None:
        torch.save(plain(), tmp_path / "net.pt")
        result = api.convert(tmp_path / "net.pt", trust=True, preprocess="size=16")
        assert result.verified is not None
        assert result.verified.ok

    def test_weights_alone_want_their_factory(self, tmp_path: Path) -> None:
        torch.save(plain().state_dict(), tmp_path / "weights.pt")
        with pytest.raises(InputError, match=r"weights alone; .*FACTORY --checkpoint"):
            open_source(tmp_path / "weights.pt", OpenOptions(trust=True))
