"""Samples that ranges cannot be observed on are refused; those that tell little are told of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import onnxpress
from onnxpress.errors import InputError, SamplesError
from zoo.networks import Mlp


def rows(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (torch.nan, "sample 5 of those given has NaN in input 'row'; expected numbers"),
        (torch.inf, "batch 2 of the samples has infinity in input 'row'; expected numbers"),
        (-torch.inf, "batch 2 of the samples has infinity in input 'row'; expected numbers"),
    ],
)
def test_what_is_no_number_is_refused(number: float, told: str) -> None:
    bad = rows()
    bad[1, 2] = number
    with pytest.raises(SamplesError, match=told):
        onnxpress.quantize_aware(Mlp(), samples=[rows(), bad])


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.head((self.inner(x) + mask).softmax(-1))


def test_a_mask_of_minus_infinity_is_none_of_these() -> None:
    x, mask = torch.randn(32, 6), torch.zeros(32, 6)
    mask[:, 4:] = -torch.inf
    aware = onnxpress.quantize_aware(Masked(), (x, mask.clamp(-1e4)), samples=[(x, mask)])
    assert aware.module(x, mask).isfinite().all()


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([rows(31)], ("only 31 rows of samples calibrated: at least 32 are advised",)),
        ([rows(16), rows(16)], ()),
        ([torch.ones(8, 7)] * 4, ("the 32 samples that calibrated are all alike",)),
        (
            [torch.zeros(1, 7)],
            ("all samples that calibrated are zeros", "only 1 row of samples calibrated"),
        ),
    ],
)
def test_samples_that_tell_little_are_told_of(samples: list[object], told: tuple[str, ...]) -> None:
    warnings = onnxpress.quantize_aware(Mlp(), samples=samples).warnings
    assert len(warnings) == len(told)
    assert all(found.startswith(start) for found, start in zip(warnings, told, strict=True))


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (["a", "b"], "a batch holds a str; expected tensors or arrays, batch first"),
        ([("a", 1)], "a batch holds a str; expected tensors or arrays, batch first"),
        ([()], "a batch holds a tuple; expected tensors or arrays, batch first"),
        ("photos", "samples is a str; expected batches of inputs, in a list or a loader"),
        (rows(), "samples is a Tensor; expected batches of inputs, in a list or a loader"),
        (None, "samples is a NoneType; expected batches of inputs, in a list or a loader"),
        ([rows(), rows().bfloat16()], "input 'row' got bfloat16; expected float32"),
        ([rows(), rows().numpy().astype(np.float64)], r"input 'row' got float64\[4, 7\]; expected"),
    ],
)
def test_what_are_no_batches_is_one_line(samples: object, told: str) -> None:
    with pytest.raises(SamplesError, match=told):
        onnxpress.quantize_aware(Mlp(), samples=samples)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_modules_of_other_types_are_refused(dtype: torch.dtype) -> None:
    told = rf"the module is {str(dtype)[6:]}; expected float32; call module.float\(\)"
    with pytest.raises(InputError, match=told):
        onnxpress.quantize_aware(Mlp().to(dtype), samples=[rows().to(dtype)])


def test_a_model_that_is_quantised_already_is_refused() -> None:
    model = onnxpress.quantize_aware(Mlp(), samples=[rows(32)]).model()
    with pytest.raises(InputError, match="the model is quantised already"):
        onnxpress.quantize_aware(model, samples=[rows(32)])


@pytest.mark.parametrize("bits", ["4", 2.5, None])
def test_bits_are_a_whole_number(bits: object) -> None:
    from onnxpress.training.prepare import quantize_aware

    with pytest.raises(InputError, match=rf"weight_bits={bits!r}; expected a whole number, 2 to 8"):
        quantize_aware(Mlp(), [rows()], weight_bits=bits)
