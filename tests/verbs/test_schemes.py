"""What a scheme is about, and what it tells its engine."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnxpress.errors import InputError
from onnxpress.machine import Machine, this_machine
from onnxpress.verbs.schemes import (
    Scheme,
    nothing_to_quantize,
    refuse_quantized,
    unsaturated,
)
from zoo.graphs import parse

CONV = parse(
    "(float[N,1,8,8] x) => (float[N,2,8,8] y) { y = Conv<pads=[1, 1, 1, 1]>(x, w) }",
    w=np.ones((2, 1, 3, 3), np.float32),
)


@pytest.mark.parametrize(
    ("name", "bits", "operators"),
    [
        ("weight-only", 8, {"Conv", "ConvTranspose", "MatMul", "Gemm"}),
        ("weight-only", 4, {"MatMul", "Gemm"}),
        ("static", 4, {"Conv", "MatMul", "Gemm"}),
        ("weight-only+float16", 4, {"Conv", "ConvTranspose", "MatMul", "Gemm"}),
    ],
)
def test_the_operators_that_it_is_about(name: str, bits: int, operators: set[str]) -> None:
    assert set(Scheme(name, bits=bits).operators) == operators


def test_what_it_finds_nothing_of_is_named() -> None:
    told = str(nothing_to_quantize(Scheme("weight-only", bits=4), CONV, ()))
    assert "it has no MatMul, Gemm with constant weights" in told
    assert Scheme("weight-only").layers(CONV)


def test_bfloat16_is_for_the_engine_that_has_it() -> None:
    with pytest.raises(InputError, match="no bfloat16 on CPUs; expected --engine openvino"):
        Scheme("static+bfloat16", "onnxruntime")
    assert Scheme("static+bfloat16", "openvino").parts == ("static", "bfloat16")


@pytest.mark.parametrize(
    ("name", "activations", "bytes_too"),
    [
        ("static", "uint8", True),
        ("static", "int16", False),
        ("static+dynamic", "int16", True),
        ("weight-only", "uint8", False),
        ("float16", "uint8", False),
    ],
)
def test_whether_bytes_are_multiplied(name: str, activations: str, bytes_too: bool) -> None:
    assert Scheme(name, activations=activations).multiplies_bytes == bytes_too


@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger", "QLinearMatMul", "QuantizeLinear"])
def test_operators_of_quantised_models(op: str) -> None:
    inputs = {"QLinearMatMul": "x, s, z, x, s, z, s, z", "QuantizeLinear": "f, s, z"}
    text = (
        "(uint8[2,2] x, float[2,2] f, float s, uint8 z) => "
        f"(int32[2,2] y) {{ y = {op} ({inputs.get(op, 'x, x')}) }}"
    )
    with pytest.raises(InputError, match=rf"quantised already \({op} "):
        refuse_quantized(parse(text))


def test_tables_become_integers_before_what_is_left_becomes_halves() -> None:
    names = [step.name for step in Scheme("weight-only+float16").recipe(tables=True).passes]
    assert names[-2:] == ["quantize_embeddings", "to_float16"]
    assert "quantize_embeddings" not in str(Scheme("static").recipe())


OLD = dataclasses.replace(this_machine(), architecture="x86_64", isa=("AVX2", "FMA"))
NEW = dataclasses.replace(OLD, isa=("AVX2", "AVX512_VNNI"))
ARM = dataclasses.replace(OLD, architecture="aarch64", isa=("NEON",))


class TestSaturation:
    @pytest.mark.parametrize("scheme", [Scheme("static"), Scheme("dynamic+float16")])
    def test_scales_are_wider_where_products_saturate(self, scheme: Scheme) -> None:
        found, why = unsaturated(scheme, OLD, asked=False)
        assert found == dataclasses.replace(scheme, reduce_range=True)
        assert "reduce_range=True" in str(found.recipe())
        assert "no products saturate" in why

    @pytest.mark.parametrize("machine", [NEW, ARM])
    def test_not_on_other_machines(self, machine: Machine) -> None:
        assert unsaturated(Scheme("static"), machine, asked=False) == (Scheme("static"), "")

    @pytest.mark.parametrize(
        "scheme",
        [
            Scheme("weight-only"),
            Scheme("static", activations="uint16"),
            Scheme("static", bits=7),
            Scheme("dynamic", "openvino"),
        ],
    )
    def test_not_where_nothing_can(self, scheme: Scheme) -> None:
        assert unsaturated(scheme, OLD, asked=False) == (scheme, "")

    def test_bits_that_were_asked_for_stay(self) -> None:
        found, why = unsaturated(Scheme("static"), OLD, asked=True)
        assert found == Scheme("static")
        assert "more than 7 bits may saturate" in why
