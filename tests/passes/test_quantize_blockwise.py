"""Weights with a scale per block: packed as ONNX Runtime reads them, alike in both engines."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpress.blocks import packed, quantize_blocks
from onnxpress.errors import InputError
from onnxpress.model import Model, load
from onnxpress.passes.quantize_blockwise import QuantizeBlockwise
from onnxpress.passes.quantize_weights import QuantizeWeights
from onnxpress.quantization import quantize_weight
from onnxpress.recipe import Change, Recipe
from zoo.graphs import Array, answers, openvino_answers, parse, serialized

RNG = np.random.default_rng(0)
FORMS = ("MatMulNBits", "DequantizeLinear")


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def applied(step: QuantizeBlockwise, source: Model) -> tuple[Model, Change]:
    before = serialized(source)
    after, change = step.apply(source)
    assert serialized(source) == before
    onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
    assert after.signature == source.signature
    assert not step.apply(after)[1].changed
    return after, change


def error(weight: Array, **how: object) -> float:
    """Root mean square of what quantising changes, over that of the weight."""
    settings = {"size": 32, "bits": 4, "symmetric": False, "scales": "minmax", **how}
    found = quantize_blocks(weight, **settings).restored(len(weight))  # type: ignore[arg-type]
    return float(np.linalg.norm(found - weight) / np.linalg.norm(weight))


class TestBlocks:
    def test_by_hand(self) -> None:
        weight = np.array([[-8, 7.5, 1, 0, 3, 3]], np.float32).T / 4
        found = quantize_blocks(weight, 2, 4, False, "minmax")
        np.testing.assert_allclose(found.scale, [[15.5 / 4 / 15, 0.25 / 15, 0.75 / 15]])
        assert found.zero.tolist() == [[8, 0, 0]]
        assert found.integers.tolist() == [[[0, 15], [15, 0], [15, 15]]]
        found = quantize_blocks(weight, 2, 4, True, "minmax")
        np.testing.assert_allclose(found.scale, [[0.25, -0.25 / 8, -0.75 / 8]])
        assert found.integers.tolist() == [[[0, 15], [0, 8], [0, 0]]]
        assert (found.zero == 8).all()

    def test_the_last_block_is_filled_up_and_zeros_stay_zeros(self) -> None:
        weight = np.zeros((40, 3), np.float32)
        weight[33, 1] = 2
        for symmetric in (True, False):
            found = quantize_blocks(weight, 32, 4, symmetric, "mse")
            assert found.integers.shape == (3, 2, 32)
            np.testing.assert_allclose(found.restored(40), weight)

    def test_low_nibbles_come_first(self) -> None:
        numbers = np.array([[1, 2, 3]], np.uint8)
        assert packed(numbers, 4).tolist() == [[0x21, 0x03]]
        assert packed(numbers, 8) is numbers
        even = np.array([1, 2, 3, 15], np.uint8)
        assert ir.tensor(even.astype(ml_dtypes.uint4)).tobytes() == packed(even, 4).tobytes()

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_searching_loses_less(self, symmetric: bool) -> None:
        """5 and 8 % of the error; MiniLM's own weights give the same."""
        weight = normal(1024, 64)
        for size, gain in ((32, 0.96), (256, 0.93)):
            found = {how: error(weight, size=size, symmetric=symmetric, scales=how)
                     for how in ("mse", "minmax")}  # fmt: skip
            assert found["mse"] < gain * found["minmax"], found

    def test_smaller_blocks_more_bits_and_zero_points_lose_less(self) -> None:
        weight = normal(512, 64)
        assert error(weight, size=16) < error(weight, size=64) < error(weight, size=256)
        assert error(weight, bits=8) < error(weight) / 10
        assert error(weight) < error(weight, symmetric=True)


class TestChannels:
    @pytest.mark.parametrize(("bits", "gain"), [(4, 0.85), (8, 1.0)])
    def test_scales_that_lose_least(self, bits: int, gain: float) -> None:
        weight = normal(64, 500)
        lost = {}
        for how in ("mse", "minmax"):
            small = quantize_weight(weight, 0, bits, scales=how)
            lost[how] = np.linalg.norm(small.values * small.scale[:, None] - weight)
        assert lost["mse"] < gain * lost["minmax"]
        least = np.full(64, 2.0, np.float32)
        assert (quantize_weight(weight, 0, bits, least, "mse").scale >= 2).all()
        empty = quantize_weight(np.zeros((2, 3), np.float32), 0, scales="mse")
        assert empty.scale.tolist() == [1, 1]


class TestProducts:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("symmetric", [True, False])
    @pytest.mark.parametrize("bits", [4, 8])
    def test_what_is_restored_is_multiplied(self, form: str, symmetric: bool, bits: int) -> None:
        weight, bias = normal(64, 24), normal(24)
        text = """(float[n,64] x) => (float[n,24] y, float[n,24] z)
            { y = MatMul(x, w) z = Gemm(x, w, b) }"""
        source = parse(text, opset=21, ir_version=10, w=weight, b=bias)
        how = QuantizeBlockwise(bits=bits, symmetric=symmetric, form=form)
        after, change = applied(how, source)
        assert change == Change(2)
        assert "w" not in after.ir.graph.initializers
        expected = quantize_blocks(weight, 32, bits, symmetric, "mse").restored(64)
        x = normal(9, 64)
        # In the second form ONNX Runtime rounds activations to int8.
        for engine in (answers, openvino_answers):
            y, z = engine(after, {"x": x})
            np.testing.assert_allclose(y, x @ expected, atol=2e-4)
            np.testing.assert_allclose(z, x @ expected + bias, atol=2e-4)

    def test_one_quantised_weight_for_all_readers(self) -> None:
        text = "(float[n,32] x) => (float[n,32] y) { h = MatMul(x, w) y = MatMul(h, w) }"
        after, _ = applied(QuantizeBlockwise(), parse(text, w=normal(32, 32)))
        assert len(after.ir.graph.initializers) == 3
        assert after.weight_bytes == 32 * (16 + 4 + 1)

    @pytest.mark.parametrize("rows", [1, 31, 33, 100])
    @pytest.mark.parametrize("size", [16, 256])
    def test_any_number_of_rows(self, rows: int, size: int) -> None:
        weight = normal(rows, 5)
        text = f"(float[n,m,{rows}] x) => (float[n,m,5] y) {{ y = MatMul(x, w) }}"
        source = parse(text, w=weight)
        after, _ = applied(QuantizeBlockwise(bits=8, block_size=size), source)
        feeds = {"x": normal(2, 3, rows)}
        for got in (answers(after, feeds), openvino_answers(after, feeds)):
            np.testing.assert_allclose(got[0], feeds["x"] @ weight, atol=0.02 * rows**0.5)

    @pytest.mark.parametrize("form", FORMS)
    def test_transposed_gemm_and_branches(self, form: str) -> None:
        text = """(float[n,32] x, bool flag) => (float[n,8] y) {
            g = Gemm<transB=1>(x, w, b)
            y = If (flag) <
                then_branch = yes () => (float[n,8] t) { t = Gemm<transB=1>(x, w) },
                else_branch = no () => (float[n,8] e) { e = Identity(g) }> }"""
        source = parse(text, opset=21, ir_version=10, w=normal(8, 32), b=normal(8))
        after, change = applied(QuantizeBlockwise(bits=8, form=form), source)
        assert change == Change(2)
        for flag in (True, False):
            feeds = {"x": normal(4, 32), "flag": np.array(flag)}
            [expected] = answers(source, feeds)
            for got in (answers(after, feeds), openvino_answers(after, feeds)):
                np.testing.assert_allclose(got[0], expected, atol=0.03 * np.abs(expected).max())

    @pytest.mark.parametrize("form", FORMS)
    def test_as_small_on_disk(self, form: str, external: None, tmp_path: Path) -> None:
        text = "(float[n,640] x) => (float[n,64] y) { y = MatMul(x, w) }"
        source = parse(text, opset=21, ir_version=10, w=normal(640, 64))
        after, _ = applied(QuantizeBlockwise(form=form), source)
        assert after.weight_bytes == 640 * 64 // 2 + 64 * 20 * 4 + 64 * 20 // 2
        again = load(after.clone().save(tmp_path / "m.onnx"))
        assert again.weight_bytes == after.weight_bytes
        for name, value in after.ir.graph.initializers.items():
            [kept, read] = value.const_value, again.ir.graph.initializers[name].const_value
            assert kept is not None
            assert read is not None
            assert kept.tobytes() == read.tobytes()


class TestRefusals:
    def test_reasons(self) -> None:
        text = """(float[2,3,32] x, float[32] v) => (float[2,3,4] y, float[4] z, float[4] g) {
            y = MatMul(x, batched) z = MatMul(v, w) r = Reshape(v, one) s = Gemm<alpha=2.0>(r, w)
            g = Reshape(s, four) }"""
        constants = {"one": np.array([1, 32]), "four": np.array([4])}
        source = parse(text, batched=normal(2, 32, 4), w=normal(32, 4), **constants)
        same, change = QuantizeBlockwise().apply(source)
        assert same is source
        assert change.refusals == (
            "y: its weight has 3 dimensions",
            "z: its input is a vector",
            "s: transA, alpha or beta is set",
        )

    def test_the_second_form_needs_whole_blocks_and_opset_21(self) -> None:
        text = "(float[n,40] x) => (float[n,4] y) { y = MatMul(x, w) }"
        step = QuantizeBlockwise(form="DequantizeLinear")
        _, change = step.apply(parse(text, w=normal(40, 4)))
        assert change.refusals == ("weights in blocks need opset 21",)
        _, change = step.apply(parse(text, opset=21, ir_version=10, w=normal(40, 4)))
        assert change.refusals == ("y: its input of 40 is no multiple of a block of 32",)

    @pytest.mark.parametrize(
        "field", ["bits=3", "block_size=24", "block_size=8", "scales=best", "form=QDQ", "compute=x"]
    )
    def test_wrong_fields(self, field: str) -> None:
        with pytest.raises(InputError, match=field.partition("=")[0]):
            Recipe.parse(f"quantize_blockwise({field})")
        with pytest.raises(InputError, match="scales"):
            QuantizeWeights(scales="best")
