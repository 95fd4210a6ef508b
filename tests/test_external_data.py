"""Weights in a file beside the model: whose they are, and what may be read of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress import model as model_module
from onnxpress.errors import ModelError
from onnxpress.model import external_data_files, load
from zoo.graphs import serialized
from zoo.linear import FEEDS, WEIGHT, answer, linear, names

ZooModel = Callable[[str], Path]


@pytest.mark.usefixtures("external")
def test_large_weights_go_to_one_file_beside_the_model(tmp_path: Path) -> None:
    path = linear().save(tmp_path / "m.onnx")
    assert names(tmp_path) == ["m.onnx", "m.onnx.data"]
    model = load(path)
    assert external_data_files(model) == [tmp_path / "m.onnx.data"]
    assert model.file_bytes == path.stat().st_size + WEIGHT.nbytes
    assert np.array_equal(answer(model), FEEDS["x"] @ WEIGHT)
    onnx.checker.check_model(str(path), full_check=True)


def test_a_small_copy_of_a_model_with_external_data_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "EXTERNAL_DATA_BYTES", 1000)
    model = load(linear().save(tmp_path / "m.onnx"))
    monkeypatch.undo()
    (tmp_path / "sub").mkdir()
    copy = model.save(tmp_path / "sub" / "m.onnx")
    assert names(tmp_path / "sub") == ["m.onnx"]
    assert np.array_equal(answer(load(copy)), answer(model))
    assert external_data_files(model) == [tmp_path / "m.onnx.data"], "the model itself is as it was"


@pytest.mark.parametrize("still_large", [True, False])
@pytest.mark.usefixtures("external")
def test_a_model_may_be_saved_over_the_data_that_it_reads(
    still_large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = linear().save(tmp_path / "m.onnx")
    model = load(path)  # nothing of its data is read yet
    clone = model.clone()
    if not still_large:
        monkeypatch.setattr(model_module, "EXTERNAL_DATA_BYTES", 1 << 30)
    for _ in range(3):
        model.save(path)
        assert np.array_equal(answer(load(path)), FEEDS["x"] @ WEIGHT)
        assert len(names(tmp_path)) == (2 if still_large else 1), "old data is removed"
    for held in (model, clone):
        assert np.array_equal(answer(held), FEEDS["x"] @ WEIGHT)
        again = held.save(tmp_path / "other.onnx")
        assert np.array_equal(answer(load(again)), FEEDS["x"] @ WEIGHT)


@pytest.mark.usefixtures("external")
def test_data_files_of_other_models_are_left_alone(tmp_path: Path) -> None:
    others = ("weights.bin", "m.onnx.data", "m.onnx.backup.data", "n.onnx.data", "m.onnx.data.old")
    for name in others:
        (tmp_path / name).write_bytes(b"precious")
    path = linear().save(tmp_path / "m.onnx")
    linear(WEIGHT + 1).save(path)
    assert np.array_equal(answer(load(path)), FEEDS["x"] @ (WEIGHT + 1))
    for name in others:
        assert (tmp_path / name).read_bytes() == b"precious"
    assert len(names(tmp_path)) == len(others) + 2


@pytest.mark.parametrize("location", ["weights.bin", "m.onnx.d/../../victim.data"])
def test_foreign_data_of_a_replaced_model_is_left_alone(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "m.onnx.d").mkdir(parents=True)
    target = (folder / location).resolve()
    onnx.save(pointing_to(location), folder / "m.onnx")
    target.write_bytes(WEIGHT.tobytes())
    linear().save(folder / "m.onnx")
    assert target.read_bytes() == WEIGHT.tobytes()


def pointing_to(location: str, offset: int = 0, length: int | None = None) -> onnx.ModelProto:
    """``linear()`` whose weight is ``location``'s."""
    proto = onnx.ModelProto.FromString(serialized(linear()))
    point(proto.graph.initializer[0], location, offset, length)
    return proto


def point(tensor: TensorProto, location: str, offset: int = 0, length: int | None = None) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(offset), "length": str(length)}
    for key, value in entries.items():
        if value != "None":
            tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("/etc/passwd", r"points outside the model's folder \(/etc/passwd\)"),
        ("../secret", "points outside"),
        ("sub/../../secret", "points outside"),
        ("link", "points outside"),
        ("linked/secret", "points outside"),
        ("none.data", "none.data of tensor 'w' is missing"),
        ("sub", "sub of tensor 'w' is missing"),
        ("short.data", "short.data has 1599 bytes; expected bytes 0 to 1600"),
        ("hard.data", "is a hard link"),
    ],
)
@pytest.mark.parametrize("where", ["initializer", "constant", "function", "branch"])
def test_external_data_that_is_unsafe_or_not_whole_is_refused(
    location: str, told: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for path in (tmp_path / "secret", folder / "own.data"):
        path.write_bytes(WEIGHT.tobytes())
    (folder / "short.data").write_bytes(WEIGHT.tobytes()[:-1])
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "hard.data").hardlink_to(folder / "own.data")
    proto = placed(where, location)
    onnx.save(proto, folder / "m.onnx")
    with pytest.raises(ModelError, match=told.replace("'w'", "'.*'")):
        load(folder / "m.onnx")
    monkeypatch.chdir(folder)
    with pytest.raises(ModelError, match=told.replace("'w'", "'.*'")):
        load("m.onnx")


def placed(where: str, location: str) -> onnx.ModelProto:
    """A model whose weight is ``location``'s, in each of the places that a tensor may be in."""
    if where == "initializer":
        return pointing_to(location)
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHT, "w"))
    point(constant.attribute[0].t, location)
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 100])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    nodes, functions, initializers = [constant, product], [], []
    if where == "function":
        functions = [helper.make_function("local", "f", ["x"], ["y"], nodes, opsets[:1])]
        nodes = [helper.make_node("f", ["x"], ["y"], domain="local")]
    elif where == "branch":
        branch = helper.make_graph(nodes, "branch", [], [y])
        initializers = [numpy_helper.from_array(np.array(True), "c")]
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


@pytest.mark.parametrize("where", ["initializer", "constant", "function", "branch"])
def test_external_data_is_read_wherever_it_is_used(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, copy = tmp_path / "model", tmp_path / "copy.onnx"
    folder.mkdir()
    (folder / "own.data").write_bytes(WEIGHT.tobytes())
    onnx.save(placed(where, "own.data"), folder / "m.onnx")
    monkeypatch.chdir(folder)
    model = load("m.onnx")
    monkeypatch.chdir(tmp_path)  # the data is found from there too
    assert external_data_files(model) == [folder / "own.data"]
    assert np.array_equal(answer(model), FEEDS["x"] @ WEIGHT)
    assert np.array_equal(answer(load(model.save(copy))), FEEDS["x"] @ WEIGHT)
    assert external_data_files(load(copy)) == []
    assert external_data_files(model) == [folder / "own.data"]
    assert np.array_equal(answer(model.inlined()), FEEDS["x"] @ WEIGHT)


@pytest.mark.parametrize(("offset", "length"), [(4, None), (4, 1600), (0, 1700)])
def test_a_window_beyond_the_data_file_is_refused(
    offset: int, length: int | None, tmp_path: Path
) -> None:
    (tmp_path / "w.data").write_bytes(WEIGHT.tobytes())
    onnx.save(pointing_to("w.data", offset, length), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"w\.data has 1600 bytes; expected bytes"):
        load(tmp_path / "m.onnx")


def test_a_link_within_the_folder_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "real.data").write_bytes(WEIGHT.tobytes())
    (tmp_path / "w.data").symlink_to("real.data")
    onnx.save(pointing_to("w.data"), tmp_path / "m.onnx")
    assert np.array_equal(answer(load(tmp_path / "m.onnx")), FEEDS["x"] @ WEIGHT)
