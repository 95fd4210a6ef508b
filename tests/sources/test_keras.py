"""Keras models of many shapes, sizes and layers become proven ONNX, or one clear line."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxpress import api
from onnxpress.engine import Engine
from onnxpress.errors import InputError, MissingExtra, SourceError
from onnxpress.options import parse_inputs
from onnxpress.registry import create
from onnxpress.settings import Settings
from onnxpress.source import OpenOptions, open_source
from onnxpress.sources._tensorflow import export as exporting
from onnxpress.sources._tensorflow import origin as origins
from onnxpress.sources._tensorflow.framework import quiet
from onnxpress.sources._tensorflow.program import Program
from onnxpress.verbs.convert import Converted
from zoo.keras_models import FREE, digits, drawn_cnn, subclassed, text
from zoo.tensorflow_files import keras

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras().utils.set_random_seed(7)


def proven(model: object, **options: Any) -> Converted:
    result = api.convert(model, **options)
    assert result.verified is not None
    assert result.verified.ok, result.verified.first_mismatch
    return result


def names(result: Converted) -> tuple[list[str], list[str]]:
    signature = result.model.signature
    return [s.name for s in signature.inputs], [s.name for s in signature.outputs]


def saved(model: Any, path: Path) -> Path:
    with quiet():
        model.save(path)
    return path


@pytest.mark.parametrize(("seed", "form"), [(0, "live"), (1, "keras"), (2, "h5")])
def test_trained_classifiers_give_the_same_labels(seed: int, form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    size, classes = int(rng.integers(10, 17)), int(rng.integers(3, 11))
    images, labels = digits(size, classes)
    model = drawn_cnn(rng, size, classes)
    model.compile("adam", "sparse_categorical_crossentropy")
    with quiet():
        model.fit(images[:400], labels[:400], epochs=1, verbose=0)
    ref = model if form == "live" else saved(model, tmp_path / f"digits.{form}")
    result = proven(ref)
    assert names(result) == (["digit"], ["which"])
    assert result.model.signature.inputs[0].shape == ("batch", size, size, 1)
    assert result.exporter == "tf2onnx"
    path = result.model.save(tmp_path / "digits.onnx")
    engine = create(Engine, "engines", "onnxruntime")
    with quiet():
        expected = model.predict_on_batch(images[400:])
    with engine.open(path, Settings("onnxruntime")) as session:
        found = session.run({"digit": images[400:]})["which"]
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", FREE)
def test_layers_over_free_lengths_and_sizes(kind: str) -> None:
    result = proven(FREE[kind]())
    assert result.verified is not None
    (spec,) = result.model.signature.inputs
    free = {"ids": ("batch", "length"), "series": ("batch", "length", 6)}
    assert spec.shape == free.get(spec.name, ("batch", "height", "width", 3))
    sizes = {case.shapes[spec.name][1] for case in result.verified.cases}
    assert sizes == {16, 8, 24}, "the sweep runs other lengths than the batch too"


@pytest.mark.parametrize("kind", ["lstm", "attention", "separable"])
def test_weights_kept_out_of_the_graph(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = proven(FREE[kind]())
    filled, real = [], exporting._fill
    monkeypatch.setattr(exporting, "LARGE_BYTES", 0)
    monkeypatch.setattr(exporting, "_fill", lambda *given: filled.append(real(*given)))
    large = proven(FREE[kind]())
    assert len(filled) == 1
    assert large.model.parameters >= plain.model.parameters > 0  # fewer constants are folded
    assert large.model.signature.inputs == plain.model.signature.inputs


def test_fixed_layers_of_preprocessing_and_tables() -> None:
    k, layers = keras(), keras().layers
    row = k.Input((5,), name="row")
    normal = layers.Normalization(name="normal")
    with quiet():
        normal.adapt(np.random.default_rng(0).random((20, 5)).astype(np.float32) * 9)
    shifted = layers.Rescaling(1 / 255, offset=-0.5, name="rescaled")(row)
    result = proven(k.Model(row, [normal(row), shifted]))
    assert names(result) == (["row"], ["normal", "rescaled"])


def test_buckets_at_and_beside_their_boundaries(tmp_path: Path) -> None:
    bounds = [-1.25, 0.1, 2.0]
    row = keras().Input((4,), name="row")
    layer = keras().layers.Discretization(bin_boundaries=bounds, name="bucket")
    result = proven(keras().Model(row, layer(row)))
    path = result.model.save(tmp_path / "m.onnx")
    edges = np.array(bounds, np.float32)
    rows = np.stack([edges, np.nextafter(edges, -9), np.nextafter(edges, 9)])
    rows = np.concatenate([rows, np.zeros((3, 1), np.float32)], 1)
    with create(Engine, "engines", "onnxruntime").open(path, Settings("onnxruntime")) as session:
        found = session.run({"row": rows})["bucket"]
    np.testing.assert_array_equal(found, [[1, 2, 3, 1], [0, 1, 2, 1], [1, 2, 3, 1]])


def test_exact_gelu() -> None:
    row = keras().Input((4,), name="row")
    result = proven(keras().Model(row, keras().layers.Activation("gelu")(row)))
    assert "Erf" in result.model.op_counts()


def test_images_of_bytes_and_a_fixed_batch() -> None:
    k, layers = keras(), keras().layers
    image = k.Input((8, 8, 3), batch_size=2, dtype="uint8", name="image")
    scaled = layers.Rescaling(1 / 255)(image)
    result = proven(k.Model(image, layers.Conv2D(2, 3, name="out")(scaled)))
    assert [str(spec) for spec in result.model.signature.inputs] == ["image: uint8[2, 8, 8, 3]"]
    with open_source(k.Model(image, scaled)) as opened:
        assert opened.example is not None
        assert opened.example["image"].max() > 200


def test_several_inputs_and_nested_outputs_have_their_names() -> None:
    k, layers = keras(), keras().layers
    a, b = k.Input((4,), name="a"), k.Input((3,), dtype="int32", name="b")
    table = layers.Flatten()(layers.Embedding(9, 2)(b))
    both = layers.Concatenate()([a, table])
    outputs = {"score": layers.Dense(1)(both), "parts": [layers.Dense(2)(a), a]}
    result = proven(k.Model({"a": a, "b": b}, outputs))
    assert sorted(names(result)[0]) == ["a", "b"]
    assert sorted(names(result)[1]) == ["parts_0", "parts_1", "score"]
    state = layers.LSTM(3, return_state=True, name="lstm")
    steps = k.Input((6, 2), name="steps")
    result = proven(k.Model([steps, a], [*state(steps), layers.Dense(2, name="a_out")(a)]))
    assert names(result) == (["steps", "a"], ["lstm", "lstm_1", "lstm_2", "a_out"])


def test_lengths_of_two_inputs_are_free_of_each_other() -> None:
    k, layers = keras(), keras().layers
    one, two = k.Input((None, 2), name="one"), k.Input((None, 2), name="two")
    pool = layers.GlobalMaxPooling1D()
    result = proven(k.Model([one, two], layers.Add(name="sum")([pool(one), pool(two)])))
    assert [spec.shape for spec in result.model.signature.inputs] == [
        ("batch", "one_length", 2),
        ("batch", "two_length", 2),
    ]


def test_a_subclassed_model_once_called() -> None:
    model = subclassed()
    with pytest.raises(InputError, match="does not know its inputs yet"):
        api.convert(model)
    model({"x": np.zeros((2, 5), np.float32), "z": np.zeros((2, 3), np.float32)})
    result = proven(model)
    assert names(result) == (["x", "z"], ["y", "both_0", "both_1"])
    assert result.model.signature.inputs[0].shape == ("batch", 5)


def test_a_model_of_two_arguments_needs_to_be_told() -> None:
    k = keras()

    class Two(k.Model):  # type: ignore[misc, name-defined]  # Keras ships no types
        """Keras keeps the shape of the first argument alone."""

        def call(self, left: Any, right: Any) -> Any:
            return left + right

    model = Two()
    model(np.zeros((2, 5), np.float32), np.zeros((2, 5), np.float32))
    with pytest.raises(InputError, match=r"does not tell what it takes: left, right; .*--input"):
        api.convert(model)
    given = parse_inputs(["left:float32[batch,5]", "right:float32[batch,5]"])
    assert names(proven(model, inputs=given)) == (["left", "right"], ["output"])


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [("mixed_float16", "float16"), ("float16", "float16"), ("mixed_bfloat16", None)],
)
def test_precisions(policy: str, dtype: str | None) -> None:
    k, layers = keras(), keras().layers
    image = k.Input((8, 8, 3), name="image")
    x = layers.BatchNormalization(dtype=policy)(layers.Conv2D(4, 3, dtype=policy)(image))
    flat = layers.GlobalAveragePooling2D(dtype=policy)(x)
    model = k.Model(image, layers.Dense(3, dtype=policy, name="out")(flat))
    if dtype is None:
        with pytest.raises(SourceError, match=r"computes in bfloat16 \(.*policy float32"):
            api.convert(model)
    else:
        assert proven(model).model.signature.outputs[0].dtype == dtype


def test_shapes_that_the_user_fixes_and_names() -> None:
    model = FREE["conv"]()
    result = proven(model, shapes={"image": ("n", 20, "wide", 3)})
    assert result.model.signature.inputs[0].shape == ("n", 20, "wide", 3)
    assert proven(model, static=True).model.signature.inputs[0].shape == (1, 16, 16, 3)
    sized = proven(model, static=True, preprocess="size=24x12")
    assert sized.model.signature.inputs[0].shape == (1, 24, 12, 3)
    for shape in ((1, 2), ("n", 20, 20, 4)):
        with pytest.raises(InputError, match=r"--shape gives image the shape .*; expected one"):
            api.convert(model, shapes={"image": shape})
    with pytest.raises(InputError, match="--shape names input 'x'; expected one of image"):
        api.convert(model, shapes={"x": (1,)})


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_opsets(opset: int) -> None:
    assert proven(FREE["groups"](), opset=opset).opset == opset


class TestPlantedFaults:
    def test_dropout_in_training_mode_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import tensorflow as tf

        k = keras()
        row = k.Input((64,), name="row")
        model = k.Model(row, k.layers.Dropout(0.5, name="drop")(row))
        real = exporting.export

        def wrong(program: Program, traced: Any, options: Any) -> Any:
            broken = Program("b", program.inputs, lambda t: {"drop": tf.nn.dropout(t["row"], 0.5)})
            return real(program, origins.trace(broken, program.inputs), options)

        monkeypatch.setattr(exporting, "export", wrong)
        result = api.convert(model)
        assert result.verified is not None
        assert not result.verified.ok

    def test_outputs_in_another_order_are_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        k = keras()
        row = k.Input((4,), name="row")
        model = k.Model(
            row, [k.layers.Dense(3, name="one")(row), k.layers.Dense(3, name="two")(row)]
        )
        real = exporting._name

        def swapped(model: Any, traced: Any) -> None:
            real(model, traced)
            one, two = model.ir.graph.outputs
            one.name, two.name = "held", one.name
            one.name = "two"

        monkeypatch.setattr(exporting, "_name", swapped)
        result = api.convert(model)
        assert result.verified is not None
        assert not result.verified.ok
        assert result.verified.first_mismatch is not None
        assert result.verified.first_mismatch.output == "one"

    def test_a_frozen_length_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = text(lambda n, x: n.Reshape((-1,))(x))
        real = exporting.export

        def wrong(program: Program, traced: Any, options: Any) -> Any:
            fixed = replace(program.inputs[0], shape=("batch", 16))
            exported = real(program, origins.trace(program, (fixed,)), options)
            for value in (*exported.model.ir.graph.inputs, *exported.model.ir.graph.outputs):
                value.shape = ir.Shape(("batch", "length"))
            return exported

        monkeypatch.setattr(exporting, "export", wrong)
        verified = api.convert(model).verified
        assert verified is not None
        assert not verified.ok
        assert "ids[" in str(verified.first_mismatch)


class TestWhatIsRefused:
    def lambdas(self, path: Path) -> Path:
        k = keras()
        row = k.Input((4,))
        return saved(k.Model(row, k.layers.Lambda(lambda x: x * 2, name="twice")(row)), path)

    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    def test_a_lambda_layer_needs_trust(self, suffix: str, tmp_path: Path) -> None:
        path = self.lambdas(tmp_path / f"m.{suffix}")
        with pytest.raises(InputError, match=r"the Lambda layer 'twice'; .*give --trust"):
            open_source(path)
        assert names(proven(path, trust=True))[1] == ["twice"]

    def test_a_custom_class_is_named(self, tmp_path: Path) -> None:
        k = keras()

        class Mine(k.layers.Layer):  # type: ignore[misc, name-defined]  # Keras ships no types
            """A layer that no other process knows."""

            def call(self, inputs: Any) -> Any:
                return inputs * 2

        for suffix in ("keras", "h5"):
            row = k.Input((4,), name="row")
            path = saved(k.Model(row, Mine(name="mine")(row)), tmp_path / f"m.{suffix}")
            with pytest.raises(SourceError, match=r"custom class or function 'Mine'") as caught:
                api.convert(path)
            assert "\n" not in str(caught.value)
        k.saving.get_custom_objects()["Mine"] = Mine
        try:
            proven(path)
        finally:
            k.saving.get_custom_objects().clear()

    def test_an_operator_without_onnx_is_named_with_its_layer(self) -> None:
        import tensorflow as tf

        k = keras()

        class Spectrum(k.layers.Layer):  # type: ignore[misc, name-defined]  # Keras ships no types
            """Complex numbers have no place in ONNX's operators."""

            def call(self, inputs: Any) -> Any:
                return tf.math.real(tf.signal.fft(tf.cast(inputs, tf.complex64)))

        row = k.Input((4,), name="row")
        with pytest.raises(SourceError, match=r"no ONNX for FFT in .*spectrum") as caught:
            api.convert(k.Model(row, Spectrum(name="spectrum")(row)))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"shape": (5,), "sparse": True}, "input 'x' is sparse; expected dense"),
            ({"shape": (None, 3), "ragged": True}, "input 'x' is ragged; expected dense"),
            ({"shape": (2,), "dtype": "string"}, "input 'x' is of the type string"),
        ],
    )
    def test_inputs_that_are_no_tensors(self, options: dict[str, Any], match: str) -> None:
        x = keras().Input(name="x", **options)
        with pytest.raises(SourceError, match=match):
            api.convert(keras().Model(x, x))

    @pytest.mark.parametrize("suffix", ["keras", "h5", "hdf5"])
    def test_broken_files(self, suffix: str, tmp_path: Path) -> None:
        whole = saved(drawn_cnn(np.random.default_rng(0), 8, 3), tmp_path / f"m.{suffix}")
        cut = tmp_path / f"cut.{suffix}"
        for share in (0.0, 0.3, 0.9):
            cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
            with pytest.raises(SourceError, match="as a Keras model") as caught:
                api.convert(cut)
            assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match="does not exist"):
            open_source(tmp_path / f"no.{suffix}")

    def test_weights_alone(self, tmp_path: Path) -> None:
        model = drawn_cnn(np.random.default_rng(0), 8, 3)
        path = tmp_path / "m.weights.h5"
        with quiet():
            model.save_weights(path)
        with pytest.raises(SourceError, match="holds weights alone; expected a whole model"):
            open_source(path)
        other = drawn_cnn(np.random.default_rng(0), 8, 3)
        kept = [weight.numpy().copy() for weight in other.weights]  # its own start
        proven(other, checkpoint=path)
        assert any((a != b.numpy()).any() for a, b in zip(kept, other.weights, strict=True))
        with pytest.raises(SourceError, match="does not fit"):
            api.convert(FREE["lstm"](), checkpoint=path)

    def test_a_wrong_suffix_and_a_wrong_exporter(self) -> None:
        with pytest.raises(InputError, match=r"keras:m.txt; expected a .keras or .h5 file"):
            open_source("keras:m.txt")
        with pytest.raises(SourceError, match="--exporter dynamo is PyTorch's"):
            api.convert(FREE["groups"](), exporter="dynamo")

    @pytest.mark.parametrize("package", ["keras", "tensorflow", "tf2onnx"])
    def test_a_missing_package_names_the_extra(
        self, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = saved(drawn_cnn(np.random.default_rng(0), 8, 3), tmp_path / "m.keras")
        real = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == package else real(name)
        )
        with pytest.raises(MissingExtra, match=rf"{package} .*onnxpress\[tensorflow\]"):
            api.convert(path)


def test_the_fingerprint_is_of_structure_and_weights(tmp_path: Path) -> None:
    def printed(model: object) -> str:
        with open_source(model) as opened:
            return opened.fingerprint()

    model = drawn_cnn(np.random.default_rng(1), 8, 3)
    first, in_file = printed(model), printed(saved(model, tmp_path / "m.keras"))
    assert printed(model) == first
    model.layers[-1].bias.assign_add([1.0, 0.0, 0.0])
    assert printed(model) != first
    assert printed(saved(model, tmp_path / "m.keras")) != in_file


def test_the_command_line(tmp_path: Path, shell: Shell) -> None:
    path = saved(drawn_cnn(np.random.default_rng(2), 8, 3), tmp_path / "m.keras")
    code, out, _ = shell("convert", f"keras:{path}", "-o", tmp_path / "m.onnx", "--json")
    assert code == 0
    data = json.loads(out)
    assert (data["exporter"], data["verified"]["ok"]) == ("tf2onnx", True)
    assert (tmp_path / "m.onnx").is_file()


FRESH = """
import sys
from onnxpress.source import open_source
with open_source(sys.argv[1]) as origin:
    assert "tensorflow" not in sys.modules, "a file's kind is known without TensorFlow"
    with origin.session(threads=1) as session:
        import tensorflow as tf
        print(tf.config.threading.get_intra_op_parallelism_threads(), session.signature.inputs[0])
"""


def test_a_fresh_process_is_quiet_and_takes_the_threads(tmp_path: Path) -> None:
    path = saved(drawn_cnn(np.random.default_rng(2), 8, 3), tmp_path / "m.keras")
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(path)], capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "1 digit: float32[batch, 8, 8, 1]\n"


def test_the_size_of_an_embedding_bounds_the_tokens() -> None:
    model = text(lambda n, x: n.GlobalAveragePooling1D()(x))
    with open_source(model, OpenOptions()) as opened:
        example = opened.example
        assert example is not None
        assert example["ids"].max() > 1
        assert example["ids"].max() < 40
