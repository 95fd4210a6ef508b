"""PyTorch models of many shapes become proven ONNX, or one clear line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onnxpress.errors import InputError, SourceError
from onnxpress.model import load
from onnxpress.source import Exporter, ExportOptions, OpenOptions, Origin, open_source
from onnxpress.sources._torch import export as exporting
from onnxpress.verbs.convert import Converted, convert


class Two(nn.Module):
    """Keyword inputs, integers among them; outputs in a dict with a tuple inside."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.mix = nn.Linear(6, 3)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> dict[str, object]:
        x = self.table(ids) * scale[:, None, None]
        return {"logits": self.mix(x), "pooled": (x.mean(1), x.amax(1)), "none": None}


@dataclass
class Named:
    """A model's own output class."""

    first: torch.Tensor
    second: torch.Tensor | None = None


class Fields(nn.Module):
    """Outputs in a dataclass, as transformers' models have them."""

    def forward(self, x: torch.Tensor) -> Named:
        return Named(first=x * 2)


class Training(nn.Module):
    """Answers differ between training and evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9), nn.BatchNorm1d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


class Branch(nn.Module):
    """Python control flow on data: torch.export refuses it, tracing follows the example."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if float(x.abs().sum()) >= 0 else x - 1


class FixedBatch(nn.Module):
    """Works with two rows only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 6) * 2


class OneRow(nn.Module):
    """Works with one row only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(6) * 2


class Echo(nn.Module):
    """Outputs that are called like the input and like each other."""

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"x": x * 2, "a": {"b": x * 3}, "a_b": x * 4}


class Overwriting(nn.Module):
    """Writes into its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(1) * 2


class SequenceFirst(nn.Module):
    """Rows are the second dimension: what the dynamo exporter makes of it does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x)[0]
        return result


class Factor(nn.Module):
    """A tensor and a number."""

    def forward(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        assert factor.dim() == 0
        return x * factor


class Unsaved(nn.Module):
    """A buffer that is not in the state_dict."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(value), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.offset
        return result


def origin(module: nn.Module, example: object) -> Origin:
    from onnxpress.sources._torch.origin import TorchOrigin

    return TorchOrigin(module, example, OpenOptions(), "")


def converted(module: nn.Module, example: object, **options: object) -> Converted:
    with origin(module, example) as opened:
        return convert(opened, ExportOptions(**options))  # type: ignore[arg-type]  # shorthand


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_keywords_integers_and_nested_outputs(exporter: str) -> None:
    example = {"ids": torch.randint(0, 11, (1, 5)), "scale": torch.ones(1)}
    result = converted(Two(), example, exporter=exporter)
    assert result.exporter == exporter
    assert result.verified is not None
    assert result.verified.ok
    assert [case.shapes["ids"][0] for case in result.verified.cases] == [1, 2, 5, 2]
    signature = result.model.signature
    assert [spec.name for spec in signature.inputs] == ["ids", "scale"]
    assert [spec.name for spec in signature.outputs] == ["logits", "pooled_0", "pooled_1"]
    assert signature.dynamic_batch


def test_a_dataclass_of_outputs() -> None:
    result = converted(Fields(), torch.ones(1, 3))
    assert [spec.name for spec in result.model.signature.outputs] == ["first"]
    assert result.verified is not None
    assert result.verified.ok


def test_training_mode_is_left() -> None:
    module = Training().train()
    result = converted(module, torch.randn(3, 4))
    assert result.verified is not None
    assert result.verified.ok
    assert not module.training


def test_torchscript_is_the_fallback_and_the_reason_is_kept(tmp_path: Path) -> None:
    result = converted(Branch(), torch.ones(2, 3))
    assert result.exporter == "torchscript"
    assert result.fallback_reason is not None
    assert result.fallback_reason.startswith("dynamo: ")
    assert "\n" not in result.fallback_reason
    saved = load(result.model.save(tmp_path / "m.onnx"))
    assert "torchscript" in saved.metadata["onnxpress.exporter"]
    assert saved.metadata["onnxpress.fallback_reason"] == result.fallback_reason


def test_a_batch_that_cannot_be_free_is_fixed_and_said() -> None:
    result = converted(FixedBatch(), torch.ones(2, 6))
    assert result.model.signature.inputs[0].shape == (2, 6)
    assert result.fallback_reason is not None
    assert "no other batch size" in result.fallback_reason
    assert result.verified is not None
    assert result.verified.ok


def test_one_row_alone_is_a_batch_size_too() -> None:
    result = converted(OneRow(), torch.ones(1, 6))
    assert result.model.signature.inputs[0].shape == (1, 6)
    assert result.verified is not None
    assert result.verified.ok


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_names_that_clash_get_numbers(exporter: str) -> None:
    result = converted(Echo(), torch.ones(2, 3), exporter=exporter)
    assert [spec.name for spec in result.model.signature.inputs] == ["x"]
    assert [spec.name for spec in result.model.signature.outputs] == ["x_1", "a_b", "a_b_1"]
    assert result.verified is not None
    assert result.verified.ok


def test_a_module_that_writes_into_its_input_leaves_ours_alone() -> None:
    given = torch.ones(2, 3)
    with origin(Overwriting(), given) as opened, opened.session() as session:
        feeds = {"x": np.ones((2, 3), np.float32)}
        for _ in range(2):
            assert (session.run(feeds)["output"] == 4).all()
        assert (feeds["x"] == 1).all()
        assert (given == 1).all()
        result = convert(opened)
    assert result.verified is not None
    assert result.verified.ok


def test_a_model_that_does_not_run_is_made_by_the_other_exporter() -> None:
    result = converted(SequenceFirst(), torch.randn(5, 2, 3))
    assert result.exporter == "torchscript"
    assert str(result.fallback_reason).startswith("dynamo: the model differs (it fails where")
    assert result.verified is not None
    assert result.verified.ok


def test_an_input_without_dimensions_and_rows_of_the_other() -> None:
    result = converted(Factor(), (torch.ones(2, 3), 2.0))
    assert [spec.shape for spec in result.model.signature.inputs] == [("batch", 3), ()]
    assert result.verified is not None
    assert [case.shapes["x"] for case in result.verified.cases] == [(1, 3), (2, 3), (5, 3)]


class Flag(nn.Module):
    """``flag`` is for Python."""

    def forward(self, x: torch.Tensor, flag: bool) -> torch.Tensor:
        return x * 2 if flag else x


def test_an_input_that_only_python_reads_is_named() -> None:
    with pytest.raises(SourceError, match="has no input 'flag': its operators do not read it"):
        converted(Flag(), (torch.ones(2, 3), True))


def test_integers_stay_in_the_range_of_the_example() -> None:
    table = nn.EmbeddingBag(3, 4)
    result = converted(table, torch.tensor([[2, 0, 1, 2]]))
    assert result.verified is not None
    assert result.verified.ok


@pytest.mark.parametrize("example", ["text", (torch.ones(2, 3), None), {"x": object()}])
def test_examples_that_are_no_tensors(example: object) -> None:
    with pytest.raises(SourceError, match=r"example inputs hold a .*; expected tensors"):
        origin(Factor(), example)


def test_an_example_that_the_module_refuses_is_told_as_given() -> None:
    with pytest.raises(SourceError, match=r"Linear.forward on input: float32\[1, 3\] raised"):
        origin(nn.Linear(4, 2), torch.ones(1, 3))


def test_buffers_that_are_not_saved_change_the_fingerprint() -> None:
    prints = {origin(Unsaved(value), torch.ones(2, 3)).fingerprint() for value in (1.0, 1.0, 2.0)}
    assert len(prints) == 2


def test_torch_itself_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = torch.onnx.export, []

    def counting(*args: object, **options: object) -> object:
        calls.append(options["dynamo"])
        return real(*args, **options)  # type: ignore[arg-type]  # what ``export`` hands over

    monkeypatch.setattr(torch.onnx, "export", counting)
    monkeypatch.setattr(torch.jit, "trace", lambda *_, **__: pytest.fail("traced"))
    assert converted(nn.Linear(4, 2), torch.ones(2, 4), exporter="dynamo").exporter == "dynamo"
    with pytest.raises(SourceError, match="no exporter could convert Branch"):
        converted(Branch(), torch.ones(2, 3), exporter="dynamo")
    assert set(calls) == {True}


def test_a_wrong_export_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = exporting._dynamo

    def wrong(module: nn.Module, *rest: object) -> object:
        broken = nn.Linear(4, 2)
        broken.load_state_dict(module.state_dict())
        with torch.no_grad():
            broken.bias[1] += 0.5
        return real(broken.eval(), *rest)  # type: ignore[arg-type]  # what ``export`` hands over

    monkeypatch.setattr(exporting, "_dynamo", wrong)
    result = converted(nn.Linear(4, 2), torch.ones(2, 4), exporter="dynamo")
    assert result.verified is not None
    assert not result.verified.ok
    mismatch = result.verified.first_mismatch
    assert mismatch is not None
    assert (mismatch.output, mismatch.index) == ("output", (0, 1))
    assert float(mismatch.b) - float(mismatch.a) == pytest.approx(0.5, abs=1e-4)
    # With both exporters allowed the other one is tried, and is right.
    saved = converted(nn.Linear(4, 2), torch.ones(2, 4))
    assert saved.verified is not None
    assert saved.verified.ok
    assert saved.exporter == "torchscript"
    assert "differs" in str(saved.fallback_reason)
    assert saved.model.metadata["onnxpress.fallback_reason"] == saved.fallback_reason


def test_shapes_that_the_user_frees() -> None:
    net = nn.Conv2d(3, 4, 3)
    result = converted(
        net, torch.ones(2, 3, 16, 16), shapes={"input": ("batch", 3, "height", "width")}
    )
    assert result.model.signature.inputs[0].shape == ("batch", 3, "height", "width")
    with pytest.raises(InputError, match="--shape names input 'y'; expected one of input"):
        converted(net, torch.ones(2, 3, 16, 16), shapes={"y": ("batch",)})


@pytest.mark.parametrize(
    ("exporter", "opset"),
    [
        *(("auto", opset) for opset in (13, 17, 18, 21, 23, 24)),
        *(("dynamo", opset) for opset in (17, 20, 24)),
        *(("torchscript", opset) for opset in (13, 20, 22)),
    ],
)
def test_every_opset_is_made_and_proven(exporter: Exporter, opset: int) -> None:
    options = ExportOptions(opset=opset, exporter=exporter)
    with origin(nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.LayerNorm(8)), torch.ones(2, 3)) as o:
        result = convert(o, options)
    assert result.opset == opset
    assert result.verified is not None
    assert result.verified.ok


@pytest.mark.parametrize("opset", [3, 99])
def test_an_opset_that_there_is_not_is_refused(opset: int) -> None:
    with origin(nn.Linear(3, 2), torch.ones(2, 3)) as opened, pytest.raises(InputError) as caught:
        convert(opened, ExportOptions(opset=opset))
    assert str(caught.value).startswith(f"opset {opset}; expected 7 to ")


class Bessel(nn.Module):
    """An operator that has no ONNX form."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


class Broken(nn.Module):
    """Fails when it is exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            raise RuntimeError("real values only")
        return x


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (Bessel(), r"the layer 1\.1 \(Bessel\) of Sequential \(dynamo: .*bessel_j0.*torchscript: "),
        (Broken(), r"the layer 1\.1 \(Broken\) at test_torch\.py:\d+ of Sequential .*real values"),
    ],
)
def test_what_cannot_be_converted_is_named(
    layer: nn.Module, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), layer))
    with origin(model, torch.ones(2, 4)) as opened, pytest.raises(SourceError, match=told) as error:
        opened.export(ExportOptions())
    assert str(error.value).count("dynamo: ") == 1, "each reason once"
    assert capfd.readouterr().out == "", "exporters print graphs past Python's streams"


def test_a_decision_that_a_trace_keeps_is_told() -> None:
    with origin(nn.Sequential(nn.Linear(4, 4), Branch()), torch.ones(2, 4)) as opened:
        result = convert(opened)
    assert result.exporter == "torchscript"
    assert "the trace keeps what was decided at test_torch.py:" in str(result.fallback_reason)
    assert "test_torch.py" in result.model.metadata["onnxpress.frozen"]


def test_a_file_without_a_factory_tells_its_functions(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("raise SystemExit\ndef one(): ...\nclass Two: ...\ndef three(): ...\n")
    for ref in (f"torch:{path}", path):
        with pytest.raises(InputError, match=r"net\.py names no factory; .* with one of one, thr"):
            open_source(ref)
