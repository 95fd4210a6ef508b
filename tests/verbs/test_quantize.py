"""quantize on a trained network: what stays float, what holds the floor, what is refused."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import onnxpress
from onnxpress import api
from onnxpress.errors import InputError, SamplesError
from onnxpress.model import Model
from onnxpress.recipe import Recipe
from onnxpress.verbs.quantized import Quantized
from zoo.digits import Digits
from zoo.graphs import parse, serialized
from zoo.outliers import with_outlier

pytestmark = pytest.mark.usefixtures("in_process")
PLAIN = {"calibrator": "minmax"}


def static(digits: Digits, model: object = None, **how: object) -> Quantized:
    how = {"scheme": "static", "samples": digits.samples, "limit": 200, **how}
    return api.quantize(model or digits.onnx, **how)  # type: ignore[arg-type]


def in_float(model: Model) -> set[str]:
    """The names of the convolutions and products whose weights are floats."""
    return {
        str(node.name)
        for node in model.ir.graph
        if node.op_type in ("Conv", "Gemm", "MatMul")
        and node.inputs[1] is not None
        and node.inputs[1].is_initializer()
    }


class TestExclude:
    @pytest.mark.parametrize(
        ("pattern", "kept"),
        [
            ("/body/body.3/Conv", {"/body/body.3/Conv"}),
            ("Gemm", {"/head/head.0/Gemm", "/head/head.2/Gemm"}),
            ("body", {"/body/body.0/Conv", "/body/body.3/Conv"}),
            ("head.*", {"/head/head.0/Gemm", "/head/head.2/Gemm"}),
        ],
    )
    def test_what_matches_stays_float(self, digits: Digits, pattern: str, kept: set[str]) -> None:
        result = static(digits, exclude=[pattern], **PLAIN)
        assert in_float(result.model) == kept
        told = result.to_dict()["kept_float"]
        assert {entry["node"] for entry in told} >= kept  # type: ignore[attr-defined]
        assert {entry["why"] for entry in told} == {"it was excluded"}  # type: ignore[attr-defined]

    @pytest.mark.parametrize("scheme", ["dynamic", "weight-only"])
    def test_of_every_scheme(self, digits: Digits, scheme: str) -> None:
        result = static(digits, scheme=scheme, exclude=["head.2"])
        assert "/head/head.2/Gemm" in in_float(result.model)
        assert "/head/head.0/Gemm" not in in_float(result.model)

    def test_what_stays_float_reads_floats(self, digits: Digits) -> None:
        """An outlier in front of an excluded layer must not be rounded on the way to it."""
        model, _ = with_outlier(onnxpress.load(digits.onnx), 1, 1000.0, fixed=True)
        worse = static(digits, model, **PLAIN)
        better = static(digits, model, exclude=["body.3"], **PLAIN)
        assert worse.quality.value < 0.9
        assert better.quality.value > 0.999

    @pytest.mark.parametrize("pattern", ["MatMul", "a"])
    def test_nodes_without_a_name(self, pattern: str) -> None:
        """They are called by their first output."""
        rng = np.random.default_rng(0)
        model = parse(
            "(float[n,16] x) => (float[n,16] y) { a = MatMul(x, w) b = Relu(a) y = Gemm(b, v) }",
            w=rng.standard_normal((16, 16)).astype(np.float32),
            v=rng.standard_normal((16, 16)).astype(np.float32),
        )
        samples = {"x": rng.standard_normal((60, 16)).astype(np.float32)}
        result = api.quantize(model, scheme="static", samples=samples, exclude=[pattern], **PLAIN)
        assert result.kept_float == {"a": "it was excluded"}
        assert in_float(result.model) == {"a"}

    def test_a_pattern_that_matches_nothing(self, digits: Digits) -> None:
        with pytest.raises(InputError, match=r"--exclude body\.7 matches no node.*there is body"):
            static(digits, exclude=["body.7"])


class TestFloor:
    def test_the_layer_that_suffers_is_kept_and_the_floor_holds(self, digits: Digits) -> None:
        factor = random.Random(7).choice([300.0, 1000.0, 3000.0])
        model, _ = with_outlier(onnxpress.load(digits.onnx), 1, factor, fixed=True)
        plain = static(digits, model, **PLAIN)
        assert plain.quality.low < 0.99
        assert plain.ruined
        assert any("only" in warning for warning in plain.warnings)
        held = static(digits, model, floor=0.99, **PLAIN)
        assert held.holds
        kept = held.to_dict()["kept_float"]
        assert [entry["node"] for entry in kept] == ["/body/body.3/Conv"]  # type: ignore[attr-defined]
        assert "for the floor" in kept[0]["why"]  # type: ignore[index]
        assert held.sensitivity is not None
        assert held.sensitivity.layers[0].node == "/body/body.3/Conv"

    def test_no_layer_is_kept_where_the_floor_holds_anyway(self, digits: Digits) -> None:
        result = static(digits, floor=0.99)
        assert result.holds
        assert not result.kept_float
        assert result.sensitivity is None

    def test_a_floor_that_nothing_holds_is_an_answer(self, digits: Digits) -> None:
        result = static(digits, floor=0.99999999, limit=100, **PLAIN)
        assert result.holds is False
        assert any("no choice of layers" in warning for warning in result.warnings)

    def test_too_few_samples_to_prove_it_are_told(self, digits: Digits) -> None:
        result = static(digits, floor=0.99, limit=7)
        assert not result.holds
        assert any("cannot prove the floor 0.99" in warning for warning in result.warnings)
        assert result.sensitivity is None


class TestHelpers:
    """What is done besides int8 itself: only where it does less damage."""

    @pytest.mark.parametrize("factor", [30.0, 1000.0])
    def test_ranges_of_channels_are_equalized_where_they_are_apart(
        self, digits: Digits, factor: float
    ) -> None:
        model, _ = with_outlier(onnxpress.load(digits.onnx), 1, factor)
        result = static(digits, model, **PLAIN)
        assert result.recipe.startswith("equalize_layers")
        assert result.quality.low > 0.999
        fixed, _ = with_outlier(onnxpress.load(digits.onnx), 1, factor, fixed=True)
        other = static(digits, fixed, **PLAIN)
        assert "equalize_layers" not in other.recipe
        assert 1 - result.quality.value < 0.3 * (1 - other.quality.value)
        assert not result.kept_float, "what is not equalised is quantised all the same"

    def test_smoothing_costs_no_int8(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Here it would: sums that others read get a Mul behind them."""
        rng = np.random.default_rng(0)
        gain = np.where(np.arange(64) == 5, 300, 1).astype(np.float32)
        model = parse(
            "(float[n,64] x) => (float[n,64] y) { a = Gemm(x, w, b)  r = Relu(a)  c = Gemm(r, v, b)"
            " d = Gemm(r, u, b)  s = Relu(r)  t = Add(c, d)  y = Add(t, s) }",
            w=(rng.standard_normal((64, 64)) * gain).astype(np.float32),
            v=(rng.standard_normal((64, 64)) / gain[:, None]).astype(np.float32),
            u=(rng.standard_normal((64, 64)) / gain[:, None]).astype(np.float32),
            b=rng.standard_normal(64).astype(np.float32),
        )
        samples = {"x": rng.standard_normal((200, 64)).astype(np.float32)}

        def made() -> Quantized:
            return api.quantize(model, scheme="static", samples=samples, **PLAIN)

        guarded = made()
        monkeypatch.setattr("onnxpress.verbs.search.SLACK", 1.0)
        free = made()
        assert "smooth_activations" in free.recipe
        assert (guarded.int8_macs_share or 0) >= (free.int8_macs_share or 0)
        plain = Recipe(Recipe.parse(free.recipe).passes[-1:])
        assert guarded.recipe == str(plain) or guarded.int8_macs_share == free.int8_macs_share

    def test_nothing_is_moved_where_that_does_not_help(self, digits: Digits) -> None:
        assert "equalize_layers" not in static(digits, **PLAIN).recipe


@pytest.mark.parametrize("scheme", ["static", "dynamic", "weight-only", "static+float16"])
def test_tables_of_embeddings_are_stored_as_integers(scheme: str) -> None:
    rng = np.random.default_rng(0)
    table, square = rng.standard_normal((4096, 32)), rng.standard_normal((32, 32))
    model = parse(
        "(int64[n,8] ids) => (float[n,8,32] y) { e = Gather(table, ids) y = MatMul(e, w) }",
        table=table.astype(np.float32),
        w=square.astype(np.float32),
    )
    samples = {"ids": rng.integers(0, 4096, (40, 8))}
    result = api.quantize(model, scheme=scheme, samples=samples, rank=True, **PLAIN)
    assert result.after_bytes < result.before_bytes / 3
    assert result.sensitivity is not None
    damage = {layer.node: layer.alone for layer in result.sensitivity.layers}
    assert set(damage) == {"e", "y"}, "the table is one of what may suffer"
    assert damage["e"] is not None
    assert 0 < damage["e"] < 1e-3
    assert "quantize_embeddings" in result.recipe
    assert result.quality.value > 0.999


@pytest.mark.parametrize("scheme", ["static+static", "float16+static", "bfloat16+dynamic"])
def test_joins_that_make_no_sense(digits: Digits, scheme: str) -> None:
    with pytest.raises(InputError, match=rf"--scheme {re.escape(scheme)}; expected"):
        static(digits, scheme=scheme)


def test_layers_are_ranked_by_two_measures(digits: Digits) -> None:
    ranking = static(digits, rank=True, **PLAIN).sensitivity
    assert ranking is not None
    damages = [layer.alone for layer in ranking.layers]
    assert len(damages) == 8
    assert damages == sorted(damages, reverse=True)  # type: ignore[type-var]
    assert all(layer.local is not None and layer.local >= 0 for layer in ranking.layers)
    assert ranking.agreement is not None
    assert -1 <= ranking.agreement <= 1
    json.dumps(ranking.to_dict())


class TestRanges:
    def test_saved_and_used_again(self, digits: Digits, tmp_path: Path) -> None:
        path = tmp_path / "ranges.json"
        first = static(digits, ranges=path)
        data = json.loads(path.read_text())
        assert data["samples"] == first.calibration_samples == 64
        assert set(data["ranges"]) >= {"image", "output"}
        data["ranges"] = {name: [low, 2 * high] for name, (low, high) in data["ranges"].items()}
        path.write_text(json.dumps(data))
        again = static(digits, ranges=path, **{"calibrator": data["calibrator"]})
        assert again.calibration_samples == 64
        assert serialized(again.model) != serialized(first.model), "the ranges come from the file"
        assert json.loads(path.read_text()) == data, "and it is left alone"

    def test_the_same_file_gives_the_same_bytes(self, digits: Digits, tmp_path: Path) -> None:
        path = tmp_path / "ranges.json"
        first, second = static(digits, ranges=path), static(digits, ranges=path)
        assert serialized(first.model) == serialized(second.model)
        assert serialized(static(digits).model) == serialized(first.model)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "holds no ranges"),
            ("[]", "holds no ranges"),
            ('{"format": "other", "version": 1}', "is no file of ranges"),
            (
                '{"format": "onnxpress ranges", "version": 1, "calibrator": "minmax", '
                '"activations": "uint8", "samples": 3, "helpers": [], "graph": "x", '
                '"ranges": {"other": [0, 1]}}',
                "holds ranges of another model",
            ),
            (
                '{"format": "onnxpress ranges", "version": 1, "calibrator": "minmax", '
                '"activations": "uint8", "samples": 3, "helpers": [], "graph": "x", '
                '"ranges": {"image": [2, 1]}}',
                "ends before it begins",
            ),
            (
                '{"format": "onnxpress ranges", "version": 1, "calibrator": "minmax", '
                '"activations": "uint8", "samples": 3, "helpers": ["magic"], '
                '"ranges": {"image": [1, 2]}}',
                "asks for magic",
            ),
        ],
    )
    def test_bad_files(self, digits: Digits, tmp_path: Path, text: str, told: str) -> None:
        path = tmp_path / "ranges.json"
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            static(digits, ranges=path)
        assert path.read_text() == text

    def test_another_calibrator_is_told(self, digits: Digits, tmp_path: Path) -> None:
        path = tmp_path / "ranges.json"
        static(digits, ranges=path, **PLAIN)
        with pytest.raises(InputError, match=r"holds ranges by minmax for uint8; expected .* mse"):
            static(digits, ranges=path, calibrator="mse")

    @pytest.mark.parametrize("scheme", ["static+float16", "dynamic", "weight-only"])
    def test_one_scheme_that_observes(self, digits: Digits, scheme: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"--ranges with --scheme .* one scheme that"):
            static(digits, scheme=scheme, ranges=tmp_path / "ranges.json")
        assert not list(tmp_path.iterdir())

    def test_what_was_chosen_with_them_is_chosen_again(
        self, digits: Digits, tmp_path: Path
    ) -> None:
        path = tmp_path / "ranges.json"
        model, _ = with_outlier(onnxpress.load(digits.onnx), 1, 300.0)
        first = static(digits, model, ranges=path)
        assert "equalize_layers" in json.loads(path.read_text())["helpers"]
        second = static(digits, model, ranges=path)
        assert second.recipe == first.recipe
        assert serialized(second.model) == serialized(first.model)


class TestBadInput:
    def images(self, count: int = 60) -> np.ndarray:
        return np.random.default_rng(0).random((count, 1, 8, 8)).astype(np.float32)

    @pytest.mark.parametrize("scheme", ["static", "dynamic", "weight-only"])
    def test_nan(self, digits: Digits, scheme: str) -> None:
        images = self.images()
        images[37, 0, 3, 3] = np.nan
        with pytest.raises(SamplesError, match=r"sample 37 of .* has NaN in input 'image'"):
            static(digits, samples=images, scheme=scheme)

    def test_samples_that_fit_some_inputs_only(self) -> None:
        model = parse(
            "(float[n,4] x, float[n,4] z) => (float[n,4] y) { a = MatMul(x, w) y = Add(a, z) }",
            w=np.eye(4, dtype=np.float32),
        )
        with pytest.raises(SamplesError, match="z"):
            api.quantize(
                model, scheme="static", samples={"x": np.ones((40, 4), np.float32)}, limit=40
            )

    def test_quantized_already(self, digits: Digits) -> None:
        once = static(digits, **PLAIN).model
        with pytest.raises(InputError, match=r"quantised already .*expected a float32 model"):
            static(digits, once)

    @pytest.mark.parametrize("scheme", ["static", "dynamic", "weight-only"])
    def test_nothing_to_quantize(self, scheme: str) -> None:
        model = parse("(float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
        with pytest.raises(InputError, match=r"changes nothing in this model: it has no .*MatMul"):
            api.quantize(model, scheme=scheme, samples=np.ones((40, 4), np.float32))

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_other_floats_are_declined(self, dtype: type) -> None:
        kind = "float16" if dtype is np.float16 else "double"
        model = parse(
            f"({kind}[n,4] x) => ({kind}[n,4] y) {{ y = MatMul(x, w) }}", w=np.eye(4, dtype=dtype)
        )
        with pytest.raises(InputError, match=r"the model's weights are .*expected float32"):
            api.quantize(model, scheme="static", samples=np.ones((40, 4), dtype))

    @pytest.mark.parametrize(
        ("images", "told"),
        [
            (np.zeros((60, 1, 8, 8), np.float32), "are zeros"),
            (np.ones((60, 1, 8, 8), np.float32), "are all alike"),
        ],
    )
    def test_samples_that_say_little_are_told(
        self, digits: Digits, images: np.ndarray, told: str
    ) -> None:
        warnings = static(digits, samples=images, **PLAIN).warnings
        assert any(told in warning for warning in warnings)
        assert any("only 30 samples calibrated: at least 32" in warning for warning in warnings)

    def test_enough_samples_are_not_warned_of(self, digits: Digits) -> None:
        warnings = static(digits, limit=None, **PLAIN).warnings
        assert not any("calibrated" in warning for warning in warnings)


class TestForms:
    @pytest.mark.parametrize(
        ("scheme", "made"),
        [
            ("float16", {ir.DataType.FLOAT16}),
            ("bfloat16", {ir.DataType.BFLOAT16}),
            ("weight-only", {ir.DataType.INT8, ir.DataType.UINT8}),
            ("dynamic+float16", {ir.DataType.INT8, ir.DataType.FLOAT16}),
            ("static+weight-only", {ir.DataType.INT8}),
        ],
    )
    def test_every_scheme_and_mixes(
        self, digits: Digits, scheme: str, made: set[ir.DataType]
    ) -> None:
        result = static(digits, scheme=scheme)
        assert result.quality.value > 0.999
        assert result.after_bytes < 0.62 * result.before_bytes
        types = {
            value.const_value.dtype
            for value in result.model.ir.graph.initializers.values()
            if value.const_value is not None
        }
        assert made <= types

    @pytest.mark.parametrize(("engine", "level"), [("onnxruntime", 4), ("openvino", 1)])
    def test_blocks_are_multiplied_in_int8_by_onnxruntime(
        self, digits: Digits, engine: str, level: int
    ) -> None:
        model = static(digits, scheme="weight-only", bits=4, engine=engine).model
        blocks = [node for node in model.ir.graph if node.op_type == "MatMulNBits"]
        assert [node.attributes.get_int("accuracy_level", 0) for node in blocks] == [level] * 2

    def test_what_is_int8_is_not_told_to_be_float(self, digits: Digits) -> None:
        result = static(digits, scheme="static+bfloat16", **PLAIN)
        assert result.settings.engine == "openvino", "what runs bfloat16"
        assert result.int8_macs_share > 0.9
        assert not result.kept_float
        some = static(digits, scheme="static+bfloat16", exclude=["head.2"], **PLAIN)
        assert list(some.kept_float) == ["/head/head.2/Gemm"]

    def test_four_bits_are_a_quarter_of_the_size_of_the_products(self, digits: Digits) -> None:
        eight = static(digits, scheme="weight-only")
        four = static(digits, scheme="weight-only", bits=4)
        assert [node.op_type for node in four.model.ir.graph].count("MatMulNBits") == 2
        assert four.quality.value > 0.99
        assert eight.quality.value > four.quality.value

    @pytest.mark.parametrize("activations", ["int8", "uint16", "int16"])
    def test_other_activations(self, digits: Digits, activations: str) -> None:
        result = static(digits, activations=activations, **PLAIN)
        assert result.quality.value > 0.999
        made = {
            value.const_value.dtype
            for value in result.model.ir.graph.initializers.values()
            if value.const_value is not None
        }
        assert ir.DataType[activations.upper()] in made

    @pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
    def test_everything_runs_in_int8(self, digits: Digits, engine: str) -> None:
        result = static(digits, engine=engine)
        assert result.int8_macs_share > 0.9
        assert result.quality.value > 0.999

    def test_a_raw_export_is_made_ready(self) -> None:
        """Batch normalisation goes into the convolution, an old opset is upgraded."""
        rng = np.random.default_rng(0)
        model = parse(
            """(float[n,3,8,8] x) => (float[n,4,6,6] y) {
                c = Conv(x, w)
                y = BatchNormalization<epsilon=0.001>(c, g, b, m, v)
            }""",
            opset=10,
            w=rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
            **{k: rng.random(4).astype(np.float32) + 0.5 for k in "gbmv"},
        )
        images = rng.standard_normal((60, 3, 8, 8)).astype(np.float32)
        result = api.quantize(model, scheme="static", samples=images)
        assert "BatchNormalization" not in result.model.op_counts()
        assert result.int8_macs_share == 1
        assert result.quality.value > 0.99

    def test_the_recipe_makes_the_model_again(self, digits: Digits) -> None:
        result = static(digits)
        assert str(Recipe.parse(result.recipe)) == result.recipe
        assert result.to_dict()["recipe"] == result.recipe
