"""Every engine gives the zoo's answers, from any thread, and refuses in one line."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import zoo
from onnxpress import registry
from onnxpress.engine import Engine, ModelFacts, Session
from onnxpress.errors import EngineError, SamplesError
from onnxpress.machine import this_machine
from onnxpress.macs import macs_per_node
from onnxpress.model import load
from onnxpress.quantization import weight_counts
from onnxpress.recipe import Recipe
from onnxpress.settings import Settings
from onnxpress.verbs.calibrate import gather
from onnxpress.verbs.executed import compute_kernels, int8_macs_share, summary
from onnxpress.verbs.feeds import random_feeds
from zoo.graphs import parse

NAMES = [
    name
    for name in registry.names("engines")
    if name != "null" and registry.create(Engine, "engines", name).available().ok
]
pytestmark = pytest.mark.parametrize("name", NAMES)


def opened(name: str, path: Path, **settings: object) -> Session:
    engine = registry.create(Engine, "engines", name)
    return engine.open(path, Settings(name, **settings))  # type: ignore[arg-type]  # a test's shorthand


def write(path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[object]]],
          outputs: dict[str, tuple[int, list[object]]]) -> Path:  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(key, *value) for key, value in inputs.items()],
        [helper.make_tensor_value_info(key, *value) for key, value in outputs.items()],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


@pytest.mark.parametrize("model", zoo.names())
@pytest.mark.parametrize("batch", [1, 3])
def test_the_zoos_answers(
    name: str, model: str, batch: int, zoo_model: Callable[[str], Path]
) -> None:
    path = zoo_model(model)
    with opened(name, path) as session:
        feeds = zoo.feeds(load(path).signature, batch, seed=batch)
        outputs = session.run(feeds)
        expected = ReferenceEvaluator(str(path)).run(None, feeds)
    assert list(outputs) == [spec.name for spec in load(path).signature.outputs]
    for mine, theirs in zip(outputs.values(), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def test_eight_threads_get_their_own_answers(name: str, zoo_model: Callable[[str], Path]) -> None:
    path = zoo_model("cnn")
    signature = load(path).signature
    with opened(name, path, threads=1) as session:
        feeds = [random_feeds(signature, 2, seed) for seed in range(48)]
        alone = [session.run(item) for item in feeds]
        kept = [{key: array.copy() for key, array in item.items()} for item in alone]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(session.run, feeds))
        submitted = [session.submit(item) for item in feeds]
    assert all(future.done() for future in submitted), "closing waits for runs under way"
    for one, before, two, future in zip(alone, kept, together, submitted, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], before[key], "a later run overwrote outputs")
            np.testing.assert_allclose(two[key], one[key], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(future.result()[key], one[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("feeds", "expected"),
    [
        ({}, "the samples lack input 'x'"),
        ({"x": np.zeros((2, 3), np.float32), "z": np.zeros(1)}, "the samples feed 'z'"),
        ({"x": np.zeros((2, 3))}, r"input 'x' got float64\[2, 3\]; expected x: float32"),
        ({"x": np.zeros((2, 4), np.float32)}, r"float32\[2, 4\]; expected x: float32"),
        ({"x": np.zeros(3, np.float32)}, r"float32\[3\]; expected"),
    ],
)
def test_feeds_that_do_not_fit(
    name: str, tmp_path: Path, feeds: dict[str, np.ndarray], expected: str
) -> None:
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        {"x": (TensorProto.FLOAT, ["n", 3])},
        {"y": (TensorProto.FLOAT, ["n", 3])},
    )
    with opened(name, path) as session, pytest.raises(SamplesError, match=expected):
        session.run(feeds)


def test_a_closed_session_says_so(name: str, zoo_model: Callable[[str], Path]) -> None:
    path = zoo_model("mlp")
    session = opened(name, path)
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run(random_feeds(load(path).signature, 1, 0))


def test_a_broken_file_is_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"this is no model")
    with pytest.raises(EngineError, match=r"cannot load broken\.onnx") as caught:
        opened(name, path)
    assert "\n" not in str(caught.value)


def test_what_it_has_no_kernel_for_is_one_line(name: str, tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOperator", ["x"], ["y"])
    ends = ({"x": (TensorProto.FLOAT, [2])}, {"y": (TensorProto.FLOAT, [2])})
    path = write(tmp_path / "new.onnx", [node], *ends)
    with pytest.raises(EngineError, match=r"cannot load new\.onnx") as caught:
        opened(name, path)
    assert "\n" not in str(caught.value)
    whole = write(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], *ends)
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(EngineError, match=r"cannot load m\.onnx"):
        opened(name, whole)
    with pytest.raises(EngineError, match=r"cannot load gone\.onnx"):
        opened(name, tmp_path / "gone.onnx")


@pytest.mark.parametrize(
    "settings",
    [
        {"provider": "NoSuchProvider"},
        {"options": {"no_such_option": "1"}},
        {"precision": "int3"},
        {"options": {"graph_optimization_level": "__class__"}},
    ],
)
def test_unknown_settings_are_errors(
    name: str, settings: dict[str, object], zoo_model: Callable[[str], Path]
) -> None:
    with pytest.raises(EngineError):
        opened(name, zoo_model("mlp"), **settings)


SHAPED = {"x": (TensorProto.FLOAT, ["n", 3]), "s": (TensorProto.FLOAT, [])}
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    "x",
    [X, np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], X.astype(">f4"), X[:0]],
    ids=["plain", "fortran", "strided", "big endian", "no rows"],
)
@pytest.mark.parametrize("scalar", [np.array(2, np.float32), np.float32(2)], ids=["0-d", "scalar"])
def test_arrays_of_any_layout(name: str, x: np.ndarray, scalar: np.ndarray, tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "s"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, SHAPED, {"y": (TensorProto.FLOAT, ["n", 3])})
    with opened(name, path) as session:
        x.flags.writeable = False
        y = session.run({"x": x, "s": scalar})["y"]
    np.testing.assert_array_equal(y, 2 * x.astype(np.float32))
    assert y.flags.writeable


def test_one_tensor_as_two_outputs_and_an_input_as_output(name: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Identity", ["a"], ["b"]),
            helper.make_node("Identity", ["x"], ["c"]),
        ],
        {"x": (TensorProto.FLOAT, ["n", 3])},
        {key: (TensorProto.FLOAT, ["n", 3]) for key in "abc"},
    )
    x = X.copy() - 2
    with opened(name, path) as session:
        outputs = session.run({"x": x})
    x[:] = 9
    outputs["a"][:] = 7
    np.testing.assert_array_equal(outputs["b"], np.maximum(X - 2, 0))
    np.testing.assert_array_equal(outputs["c"], X - 2)


def test_strings_are_answered_or_refused(name: str, tmp_path: Path) -> None:
    """Never garbage: OpenVINO's package crashes the process when their memory is read."""
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        {"x": (TensorProto.STRING, ["n"])},
        {"y": (TensorProto.STRING, ["n"])},
    )
    if name == "openvino":
        with pytest.raises(EngineError, match="'x' holds strings"):
            opened(name, path)
        return
    with opened(name, path) as session:
        for words in (np.array(["a", "bä"]), np.array(["a", "bä"], object)):
            assert session.run({"x": words})["y"].tolist() == ["a", "bä"]


def test_int_inputs_two_outputs_and_an_output_used_twice(name: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Neg", ["f"], ["y"]),
        ],
        {"x": (TensorProto.INT64, ["n"])},
        {"f": (TensorProto.FLOAT, ["n"]), "y": (TensorProto.FLOAT, ["n"])},
    )
    with opened(name, path) as session:
        outputs = session.run({"x": np.array([1, -2], np.int64)})
    assert {key: value.tolist() for key, value in outputs.items()} == {"f": [1, -2], "y": [-1, 2]}


@pytest.mark.parametrize("model", ["cnn", "mlp", "transformer"])
def test_its_forms_can_be_built_and_opened(
    name: str, model: str, zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    source = load(zoo_model(model))
    facts = ModelFacts(source.signature, source.op_counts(), weight_counts(list(source.ir.graph)))
    forms = registry.create(Engine, "engines", name).forms(facts, this_machine())
    assert forms[0].requested == "float32"
    assert forms[0].recipe == ""
    feeds = random_feeds(source.signature, 2, 0)
    for index, form in enumerate(forms):
        recipe = Recipe.parse(form.recipe)
        built, _ = recipe.apply(source, gather(recipe, source, lambda: [feeds]))
        path = built.clone().save(tmp_path / f"{index}.onnx")
        with registry.create(Engine, "engines", name).open(path, form.settings) as session:
            assert session.run(feeds)
            told = summary(session.executed())
        if form.requested == "bfloat16":
            assert "bfloat16" in told
        elif form.requested == "float32":
            assert told == "float32"


def test_products_of_what_no_weight_types_tell_their_precision(name: str, tmp_path: Path) -> None:
    """As in attention: ONNX Runtime leaves the types of activations out of what it writes."""
    source = parse(
        "(float[n, k] x, float[k, n] z) => (float[n, n] y) { s = MatMul (x, z) "
        "t = Softmax (s) u = MatMul (t, s) y = Relu (u) }"
    )
    with opened(name, source.save(tmp_path / "m.onnx")) as session:
        kernels = compute_kernels(session.executed())
    assert len(kernels) == 2
    assert all("float" in kernel.precision for kernel in kernels)


@pytest.mark.parametrize("model", ["cnn", "cnn_bn", "mlp"])
def test_quantised_layers_run_in_int8(
    name: str, model: str, zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    source = load(zoo_model(model))
    feeds = random_feeds(source.signature, 4, 0)
    recipe = Recipe.parse("quantize_static")
    built, _ = recipe.apply(source, gather(recipe, source, lambda: [feeds]))
    path = built.save(tmp_path / "int8.onnx")
    with opened(name, path) as session:
        share = int8_macs_share(session.executed(), macs_per_node(source))
    assert share > 0.95
