"""PyTorch models come back with the sizes and the free dimensions that were asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onnxpress.errors import InputError, SourceError
from onnxpress.signature import TensorSpec
from onnxpress.source import ExportOptions, OpenOptions
from onnxpress.sources._torch import export as exporting
from onnxpress.sources._torch.axes import sized
from onnxpress.sources._torch.example import Example
from onnxpress.sources._torch.origin import TorchOrigin
from onnxpress.verbs.convert import Converted, convert


class Both(nn.Module):
    """An image and ids of a table of 50."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.table = nn.Embedding(50, 8)

    def forward(self, image: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.conv(image).mean((2, 3)) + self.table(ids).mean(1)


class Similar(nn.Module):
    """Rows of ``x`` with each of ``points``."""

    def forward(self, x: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return x @ points.T


class Recurrent(nn.Module):
    """Rows are the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x)[0]
        return result


class TwoRows(nn.Module):
    """Works with two rows only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 6) * 2


BOTH = (torch.randn(1, 3, 16, 16), torch.tensor([[0, 49, 3, 7, 9]]))


def converted(
    module: nn.Module, example: object, *, inputs: tuple[TensorSpec, ...] = (), **options: object
) -> Converted:
    with TorchOrigin(module, example, OpenOptions(inputs=inputs), "") as opened:
        result = convert(opened, ExportOptions(**options))  # type: ignore[arg-type]  # shorthand
    assert result.verified is not None
    assert result.verified.ok
    return result


def shapes(result: Converted) -> list[tuple[int | str, ...] | None]:
    return [spec.shape for spec in result.model.signature.inputs]


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ({"image": (1, 3, 8, 8)}, [(1, 3, 8, 8), (1, 5)]),
        ({"image": ("n", 3, 9, "width")}, [("n", 3, 9, "width"), ("n", 5)]),
        ({"image": (3, 3, 16, 16), "ids": (3, 11)}, [(3, 3, 16, 16), (3, 11)]),
        ({"ids": ("batch", 4)}, [("batch", 3, 16, 16), ("batch", 4)]),
    ],
)
def test_numbers_and_names_are_what_was_asked(
    asked: dict[str, tuple[int | str, ...]], made: list[tuple[int | str, ...]], exporter: str
) -> None:
    assert shapes(converted(Both(), BOTH, shapes=asked, exporter=exporter)) == made


def test_values_stay_in_the_range_of_the_example() -> None:
    example = Example({"image": BOTH[0], "ids": BOTH[1]})
    made = sized(example, {"image": (2, 3, 20, 8), "ids": (2, 9)}, Both())
    assert made.tensors["image"].shape == (2, 3, 20, 8)
    assert set(made.tensors["ids"].flatten().tolist()) == {0, 49, 3, 7, 9}


def test_sizes_that_the_module_does_not_take() -> None:
    told = r"Both does not run .* image\[1, 3, 2, 2\] \(the example's is \[2, 3, 16, 16\]\)"
    with pytest.raises(InputError, match=told):
        converted(Both(), BOTH, shapes={"image": (1, 3, 2, 2)})


def test_static_keeps_the_example_and_takes_numbers() -> None:
    assert shapes(converted(Both(), BOTH, static=True)) == [(1, 3, 16, 16), (1, 5)]
    number = converted(Both(), BOTH, static=True, shapes={"image": ("n", 3, 8, 8)})
    assert shapes(number) == [(1, 3, 8, 8), (1, 5)]


def test_a_fixed_batch_of_input_stays_one() -> None:
    spec = TensorSpec("input", "float32", (1, 4))
    assert shapes(converted(nn.Linear(4, 2), None, inputs=(spec,))) == [(1, 4)]


def test_first_axes_that_differ_are_not_one_batch() -> None:
    example = torch.randn(1, 3), torch.randn(4, 3)
    result = converted(Similar(), example)
    assert (shapes(result), result.exporter) == ([("batch", 3), (4, 3)], "dynamo")
    asked = converted(Similar(), example, shapes={"x": ("n", 3), "points": ("m", 3)})
    assert shapes(asked) == [("n", 3), ("m", 3)]
    assert asked.model.signature.outputs[0].shape == ("n", "m")


def test_a_conversion_does_not_depend_on_the_one_before() -> None:
    for _ in range(2):
        asked = {"x": ("length", "batch", 4)}
        result = converted(Recurrent(), torch.randn(6, 2, 4), shapes=asked)
        assert shapes(result) == [("length", "batch", 4)]


def test_an_exporter_that_fixes_an_axis_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = exporting._dynamo

    def fixing(*args: object) -> object:
        given = list(args)
        given[3] = {}
        return real(*given)  # type: ignore[arg-type]  # what ``export`` hands over

    monkeypatch.setattr(exporting, "_dynamo", fixing)
    result = converted(nn.Linear(4, 2), torch.ones(2, 4))
    assert (shapes(result), result.exporter) == ([("batch", 4)], "torchscript")
    assert result.fallback_reason == "dynamo: fixes axis 0 of input ('batch')"
    fixed = converted(nn.Linear(4, 2), torch.ones(1, 4), exporter="dynamo")
    assert shapes(fixed) == [(1, 4)]
    assert "the batch size is fixed to the example's" in str(fixed.fallback_reason)
    with pytest.raises(SourceError, match=r"no exporter keeps axis 0 of input \('rows'\) free"):
        converted(
            nn.Linear(4, 2), torch.ones(2, 4), exporter="dynamo", shapes={"input": ("rows", 4)}
        )


@pytest.mark.parametrize("by_shape", [True, False])
def test_a_batch_that_was_asked_free_and_cannot_be(by_shape: bool) -> None:
    told = r"no other size than 2 on axis 0 of x, which was to be free \('rows'\)"
    spec = TensorSpec("x", "float32", ("rows", 6))
    with pytest.raises(SourceError, match=told):
        if by_shape:
            converted(TwoRows(), torch.ones(2, 6), shapes={"x": ("rows", 6)})
        else:
            converted(TwoRows(), None, inputs=(spec,))
