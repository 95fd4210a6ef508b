"""SavedModels and tf.functions become proven ONNX with their signatures' names, or one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
from onnxpress.source import Source, open_source
from onnxpress.sources._tensorflow import export as exporting
from onnxpress.sources._tensorflow.framework import quiet, tensorflow
from onnxpress.verbs.convert import Converted
from zoo.tensorflow_files import iris, saved_model

tf = tensorflow()


def proven(ref: object, **options: Any) -> Converted:
    result = api.convert(ref, **options)
    assert result.verified is not None
    assert result.verified.ok, result.verified.first_mismatch
    return result


def names(result: Converted) -> tuple[list[str], list[str]]:
    signature = result.model.signature
    return [s.name for s in signature.inputs], [s.name for s in signature.outputs]


def spec(*shape: int | None, dtype: Any = None, name: str | None = None) -> Any:
    return tf.TensorSpec(shape, dtype or tf.float32, name=name)


class Forest(tf.Module):  # type: ignore[misc, name-defined]  # TensorFlow ships no types
    """Layers of a random depth and width over a table and a number; weights from the seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.width = int(rng.integers(2, 9))
        sizes = [self.width, *rng.integers(3, 20, rng.integers(1, 4)).tolist()]
        self.layers = [
            tf.Variable(rng.standard_normal(pair).astype(np.float32))
            for pair in zip(sizes, [*sizes[1:], 3], strict=True)
        ]

    def __call__(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = tf.nn.relu(x @ layer)
        return x @ self.layers[-1]


def exported(seed: int, folder: Path) -> tuple[Forest, Path]:
    """A module with two signatures, as a SavedModel."""
    module = Forest(seed)
    rows = spec(None, module.width, name="rows")

    @tf.function(input_signature=[rows])
    def scores(rows: Any) -> dict[str, Any]:
        y = module(rows)
        return {"scores": y, "best": tf.argmax(y, 1)}

    @tf.function(input_signature=[rows, spec(None, dtype=tf.int32, name="shift")])
    def shifted(rows: Any, shift: Any) -> dict[str, Any]:
        return {"shifted": module(rows) + tf.cast(shift, tf.float32)[:, None]}

    signatures = {"serving_default": scores, "shifted": shifted}
    with quiet():
        tf.saved_model.save(module, str(folder), signatures=signatures)
    return module, folder


@pytest.mark.parametrize("seed", range(3))
def test_saved_models_of_any_depth_and_width(seed: int, tmp_path: Path) -> None:
    module, folder = exported(seed, tmp_path / "saved")
    result = proven(folder)
    assert names(result) == (["rows"], ["best", "scores"])
    assert result.model.signature.inputs[0].shape == ("batch", module.width)
    other = proven(f"tensorflow:{folder}#shifted")
    assert names(other)[0] == ["rows", "shift"]
    assert names(other)[1] == ["shifted"]


def test_a_trained_classifier_gives_the_same_labels(tmp_path: Path) -> None:
    folder = saved_model(tmp_path)
    result = proven(folder)
    assert names(result) == (["flower"], ["species"])
    rows, _ = iris()
    path = result.model.save(tmp_path / "iris.onnx")
    with (
        open_source(folder) as opened,
        opened.session() as original,
        create(Engine, "engines", "onnxruntime").open(path, Settings("onnxruntime")) as session,
    ):
        assert opened.baseline == "TensorFlow"
        expected, found = (s.run({"flower": rows})["species"] for s in (original, session))
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nested_arguments_of_a_function() -> None:
    @tf.function(
        input_signature=[{"a": spec(None, 3), "b": [spec(None, 3), spec(None, dtype=tf.bool)]}]
    )
    def both(x: dict[str, Any]) -> Any:
        keep = tf.cast(x["b"][1], tf.float32)[:, None]
        return (x["a"] * keep, {"sum": x["a"] + x["b"][0]}), x["b"][0]

    result = proven(both)
    assert names(result) == (
        ["x_a", "x_b_0", "x_b_1"],
        ["output_0_0", "output_0_1_sum", "output_1"],
    )
    concrete = both.get_concrete_function()
    assert names(proven(concrete)) == names(result)


def test_control_flow_and_free_lengths() -> None:
    @tf.function(input_signature=[spec(None, None, 2, name="steps")])
    def summed(steps: Any) -> Any:
        total = tf.zeros_like(steps[:, 0])
        for index in tf.range(tf.shape(steps)[1]):
            total = tf.where(total > 3.0, total * 0.5, total + steps[:, index])
        return total

    result = proven(summed)
    assert result.model.signature.inputs[0].shape == ("batch", "length", 2)
    assert result.verified is not None
    assert {case.shapes["steps"][1] for case in result.verified.cases} == {16, 8, 24}


def test_an_input_that_nothing_reads_stays() -> None:
    @tf.function(input_signature=[spec(None, 2, name="used"), spec(None, 3, name="unused")])
    def half(used: Any, unused: Any) -> Any:
        return used / 2

    assert names(proven(half))[0] == ["used", "unused"]


def test_a_function_without_a_signature_takes_inputs() -> None:
    @tf.function
    def double(x: Any) -> Any:
        return x * 2

    with pytest.raises(InputError, match=r"cannot be traced .*input_signature") as caught:
        api.convert(double)
    assert "\n" not in str(caught.value)
    result = proven(double, inputs=parse_inputs(["x:int64[batch,5]"]))
    assert result.model.signature.inputs[0].dtype == "int64"


def test_a_wrong_export_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = exported(1, tmp_path / "saved")
    real = exporting._tf2onnx

    def wrong(*arguments: Any) -> Any:
        model, version = real(*arguments)
        weight = max(model.ir.graph.initializers.values(), key=lambda v: v.const_value.size)
        array = weight.const_value.numpy().copy()
        array[:, 0] += 0.5
        weight.const_value = ir.Tensor(array, name=weight.name)
        return model, version

    monkeypatch.setattr(exporting, "_tf2onnx", wrong)
    result = api.convert(folder)
    assert result.verified is not None
    assert not result.verified.ok


class TestWhatIsRefused:
    def test_a_signature_that_is_not_there(self, tmp_path: Path) -> None:
        _, folder = exported(0, tmp_path / "saved")
        with pytest.raises(SourceError, match=r"no signature 'x'; expected one of .*shifted"):
            api.convert(f"{folder}#x")
        with quiet():
            tf.saved_model.save(tf.Module(), str(tmp_path / "bare"))
        with pytest.raises(SourceError, match="a SavedModel with signatures"):
            api.convert(tmp_path / "bare")

    def test_broken_folders(self, tmp_path: Path) -> None:
        _, folder = exported(0, tmp_path / "saved")
        graph = (folder / "saved_model.pb").read_bytes()
        for cut in (b"nothing", graph[: len(graph) // 2], b""):
            (folder / "saved_model.pb").write_bytes(cut)
            said = "loaded as a SavedModel" if cut else "saved_model.pb is empty or damaged"
            with pytest.raises(SourceError, match=said) as caught:
                api.convert(folder)
            assert "\n" not in str(caught.value)
        (folder / "saved_model.pb").write_bytes(graph)
        shutil.rmtree(folder / "variables")
        with pytest.raises(SourceError, match="loaded as a SavedModel"):
            api.convert(folder)
        for nothing in (tmp_path, tmp_path / "no"):
            with pytest.raises(InputError, match=r"no SavedModel; expected .*saved_model.pb"):
                open_source(f"tensorflow:{nothing}")

    @pytest.mark.parametrize("op", ["read", "python"])
    def test_a_graph_that_reaches_beyond_itself_needs_trust(self, op: str, tmp_path: Path) -> None:
        module = tf.Module()

        @tf.function(input_signature=[spec(None, 2, name="x")])
        def serve(x: Any) -> dict[str, Any]:
            if op == "read":
                size = tf.strings.length(tf.io.read_file(__file__))
                return {"y": x + tf.cast(size, tf.float32)}
            return {"y": tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), (None, 2))}

        with quiet():
            tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": serve})
        operator = {"read": "ReadFile", "python": "PyFunc"}[op]
        with pytest.raises(InputError, match=rf"{operator} .*beyond the model; .*give --trust"):
            api.convert(tmp_path / "m")
        with pytest.raises(SourceError, match=f"no ONNX for {operator}"):
            api.convert(tmp_path / "m", trust=True)

    @pytest.mark.parametrize(
        ("made", "match"),
        [
            (lambda: tf.RaggedTensorSpec((None, None), tf.float32), "is ragged; expected dense"),
            (lambda: tf.SparseTensorSpec((None, 3), tf.float32), "is sparse; expected dense"),
            (lambda: spec(None, dtype=tf.string), "is of the type string; expected numbers"),
            (lambda: tf.TensorSpec(None, tf.float32), "any number of dimensions"),
        ],
    )
    def test_inputs_that_are_no_tensors(self, made: Callable[[], Any], match: str) -> None:
        @tf.function(input_signature=[made()])
        def same(x: Any) -> Any:
            return x

        with pytest.raises(SourceError, match=match):
            api.convert(same)

    @pytest.mark.parametrize("form", ["ragged", "sparse", "string"])
    def test_outputs_that_are_no_tensors(self, form: str) -> None:
        @tf.function(input_signature=[spec(None, 2, name="x")])
        def other(x: Any) -> Any:
            if form == "ragged":
                return tf.RaggedTensor.from_tensor(x)
            return tf.sparse.from_dense(x) if form == "sparse" else tf.strings.as_string(x)

        with pytest.raises(SourceError, match=r"output '.*' is .*; expected (dense|numbers)"):
            api.convert(other)

    def test_a_function_that_keeps_state_or_gives_nothing(self) -> None:
        count = tf.Variable(0.0)

        @tf.function(input_signature=[spec(None, 2, name="x")])
        def counting(x: Any) -> Any:
            return count.assign_add(1.0) + x

        with pytest.raises(SourceError, match=r"it writes to a variable in .*AssignAdd"):
            api.convert(counting)
        nothing = tf.function(lambda x: None, input_signature=[spec(None, 2, name="x")])
        with pytest.raises(SourceError, match="the model returned NoneType; expected tensors"):
            api.convert(nothing)

    def test_a_batch_that_the_model_itself_fixes(self) -> None:
        @tf.function(input_signature=[spec(None, 3, 2, name="x")])
        def two(x: Any) -> Any:
            return tf.reshape(x, (2, 6))

        with pytest.raises(SourceError, match=r"on x\[1, 3, 2\] .*reshape.*--shape") as caught:
            api.convert(two)
        assert "\n" not in str(caught.value)
        fixed = api.convert(two, shapes={"x": (2, 3, 2)})
        assert fixed.verified is not None
        assert fixed.verified.ok

    def test_an_input_of_another_type(self, tmp_path: Path) -> None:
        module, folder = exported(0, tmp_path / "saved")
        for text, match in (
            (f"rows:int64[batch,{module.width}]", "--input gives rows the type int64; expected"),
            ("rows:float32[batch]", "--input gives rows the shape batch; expected one that fits"),
            ("other:float32[batch]", "--input names 'other'; expected one of rows"),
        ):
            with pytest.raises(InputError, match=match):
                api.convert(folder, inputs=parse_inputs([text]))

    def test_a_missing_package_and_a_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, folder = exported(0, tmp_path / "saved")
        with pytest.raises(InputError, match="--checkpoint with a TensorFlow model"):
            api.convert(folder, checkpoint=tmp_path / "w.h5")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match=r"onnxpress\[tensorflow\]"):
            create(Source, "sources", "tensorflow").open(str(folder), None)  # type: ignore[arg-type]  # not reached


def test_the_fingerprint_is_of_graph_and_variables(tmp_path: Path) -> None:
    def printed(ref: object) -> str:
        with open_source(ref) as opened:
            return opened.fingerprint()

    module, folder = exported(0, tmp_path / "one")
    rows = spec(None, module.width)
    plain = tf.function(module, input_signature=[rows])
    first = printed(plain)
    assert printed(tf.function(module, input_signature=[rows])) == first
    assert printed(tf.function(lambda x: module(x) + 1, input_signature=[rows])) != first
    in_file = printed(folder)
    module.layers[0].assign_add(tf.ones_like(module.layers[0]))
    assert printed(plain) != first
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "two"))
    assert printed(tmp_path / "two") != in_file
