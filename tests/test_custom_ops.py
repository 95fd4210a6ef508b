"""Operators in a shared library or a package: given, recorded by name, checked, named."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxpress
from conftest import Shell
from onnxpress import api
from onnxpress.bundle import MANIFEST
from onnxpress.errors import BundleError, EngineError, InputError, MissingExtra
from onnxpress.model import load
from onnxpress.pressing.result import Pressed

SOURCE = Path(__file__).parent / "zoo" / "soft_clip.c"


def built(folder: Path, operator: str = "SoftClip") -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to build a library with")
    library = folder / f"lib{operator.lower()}.so"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f'-DOPERATOR="{operator}"']
    subprocess.run([compiler, *flags, str(SOURCE), "-lm", "-o", str(library)], check=True)
    return library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From x by MatMul → zoo::SoftClip → MatMul, beside an Identity that can go."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=size).astype(np.float32) for size in ((8, 16), (16, 4))]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("SoftClip", ["a"], ["b"], domain="zoo"),
        helper.make_node("Identity", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "v"], ["y"]),
    ]
    return saved(
        tmp_path_factory.mktemp("model") / "zoo.onnx",
        nodes,
        (TensorProto.FLOAT, ["batch", 8]),
        (TensorProto.FLOAT, ["batch", 4]),
        [numpy_helper.from_array(w, name) for w, name in zip(weights, "wv", strict=True)],
        "zoo",
    )


def saved(path: Path, nodes: list, x: tuple, y: tuple, weights: list, domain: str) -> Path:  # type: ignore[type-arg]
    inputs = [helper.make_tensor_value_info("x", *x)]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", *y)], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def test_every_verb_takes_the_library(model: Path, library: Path, quick: None) -> None:
    assert load(model).custom_operators == ("zoo::SoftClip",)
    assert api.inspect(model, custom_ops=library).ops["zoo::SoftClip"] == 1
    assert api.verify(model, model, custom_ops=library).ok
    optimized = api.optimize(model, custom_ops=library)
    assert optimized.verified.ok
    assert optimized.after.nodes == 3
    newer = api.change_opset(model, 20, custom_ops=library).verified
    assert newer is not None
    assert newer.ok
    converted = api.convert(model, custom_ops=library).verified
    assert converted is not None
    assert converted.ok
    samples = "random:40"
    quantized = api.quantize(model, scheme="static", samples=samples, custom_ops=library)
    assert quantized.quality.value > 0.99
    rows = api.measure([model], samples=samples, rounds=6, seconds=0.2, custom_ops=library)[0].rows
    assert [row.engine for row in rows] == ["onnxruntime"]


def test_a_bundle_records_the_library_and_needs_it(
    model: Path, library: Path, tmp_path: Path, shell: Shell, quick: None
) -> None:
    pressed = api.press(
        str(model),
        samples="random:40",
        rounds=6,
        floor=0.9,
        output=tmp_path / "bundle",
        custom_ops=library,
    )
    assert isinstance(pressed, Pressed)
    assert any("openvino was not tried: it has no operator" in w for w in pressed.warnings)
    assert all(trial.row is not None for trial in pressed.candidates)
    told = json.loads((tmp_path / "bundle" / MANIFEST).read_text())["custom_ops"]
    assert told["operators"] == ["zoo::SoftClip"]
    assert told["file"] == "libsoftclip.so"
    assert str(library.parent) not in (tmp_path / "bundle" / MANIFEST).read_text()
    assert not list((tmp_path / "bundle").glob("*.so"))

    x = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)
    with onnxpress.open(tmp_path / "bundle", custom_ops=library) as predictor:
        row = predictor.predict([x[0]])[0]["y"]
    w, v = (numpy_helper.to_array(t) for t in onnx.load(str(model)).graph.initializer)
    a = x[0] @ w
    assert row == pytest.approx((a / (1 + np.abs(a))) @ v, abs=0.3)  # the chosen form may be int8

    words = ("run", tmp_path / "bundle", "--input-file", "random:1")
    code, _, err = shell(*words)
    assert code == 2
    assert "zoo::SoftClip" in err
    assert "give --custom-ops libsoftclip.so" in " ".join(err.split())
    assert shell(*words, "--custom-ops", library)[0] == 0
    with pytest.raises(BundleError, match="has SHA-256"):
        onnxpress.open(tmp_path / "bundle", custom_ops=built(tmp_path, "Other"))


def test_what_is_missing_or_wrong_is_one_line(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"operator zoo::SoftClip.*--custom-ops LIB\.so"):
        api.verify(model, model)
    with pytest.raises(InputError, match="does not exist"):
        api.inspect(model, custom_ops=tmp_path / "absent.so")
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises(EngineError, match=r"cannot load text\.so"):
        api.inspect(model, custom_ops=text)
    with pytest.raises(EngineError, match=r"zoo::SoftClip, which libother\.so lacks"):
        api.inspect(model, custom_ops=built(tmp_path, "Other"))


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    """The size of x, from the two parts that an operator of onnxruntime-extensions gives."""
    nodes = [
        helper.make_node("NegPos", ["x"], ["a", "b"], domain="ai.onnx.contrib"),
        helper.make_node("Sub", ["b", "a"], ["y"]),
    ]
    numbers = (TensorProto.FLOAT, ["batch", 4])
    return saved(tmp_path / "sizes.onnx", nodes, numbers, numbers, [], "ai.onnx.contrib")


@pytest.mark.usefixtures("one_engine", "in_process")
def test_onnxruntime_extensions_are_found_and_recorded(sizes: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_extensions")
    pressed = api.press(
        str(sizes), samples="random:40", rounds=6, floor=0.5, output=tmp_path / "bundle"
    )
    assert isinstance(pressed, Pressed)
    told = json.loads((tmp_path / "bundle" / MANIFEST).read_text())["custom_ops"]
    assert told["package"] == "onnxruntime_extensions"
    assert told["version"]
    with onnxpress.open(tmp_path / "bundle") as predictor:
        row = predictor.predict([np.array([1, -2, 0, -3], np.float32)])[0]["y"]
    assert row.tolist() == [1, 2, 0, 3]


def test_without_onnxruntime_extensions_the_extra_is_named(
    sizes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        return None if name == "onnxruntime_extensions" else known(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(MissingExtra, match=r"pip install 'onnxpress\[extensions\]'"):
        api.convert(sizes)
