"""``onnxpress bench``: files, bundles and originals side by side, with gates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from conftest import Shell
from onnxpress import api
from onnxpress.bundle import BundledForm, Manifest, write
from onnxpress.errors import InputError
from onnxpress.model import load
from onnxpress.processing import Processing
from onnxpress.settings import Settings
from zoo.project import PREPROCESS, SIDE, Project

pytestmark = pytest.mark.usefixtures("quick")

ROW = {
    "name", "engine", "requested", "executed", "batch", "length", "latency_ms",
    "throughput_per_s", "load_ms", "peak_rss_bytes", "size_bytes", "quality", "speedup", "tie",
    "fallbacks", "settings",
}  # fmt: skip


@pytest.fixture
def bundle(project_onnx: Path, tmp_path: Path) -> Path:
    """The classifier: a form that fits nowhere, then one for OpenVINO."""
    model = load(project_onnx)
    forms = (
        BundledForm("future", "", "", Settings("onnxruntime"), "int2", (("INT2_DOT",),)),
        BundledForm("here", "", "", Settings("openvino", threads=1), "float32"),
    )
    processing = Processing.parse(PREPROCESS).with_labels([str(digit) for digit in range(10)])
    manifest = Manifest(
        "image_classification", model.signature, processing, forms, "latency", "here"
    )
    write(tmp_path / "bundle", manifest, {form.name: project_onnx for form in forms})
    return tmp_path / "bundle"


def write_wrong(model: Path, path: Path) -> None:
    """The model with the weights of its last layer forgotten."""
    wrong = onnx.load(model)
    gemm = next(node for node in wrong.graph.node if node.op_type == "Gemm")
    for weight in wrong.graph.initializer:
        if weight.name == gemm.input[1]:
            array = onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(array), weight.name))
    onnx.save(wrong, path)


def test_a_bundle_and_the_original(
    project: Project, bundle: Path, shell: Shell, tmp_path: Path
) -> None:
    """The bundle tells the preprocessing that the factory's model needs, and its task."""
    code, out, err = shell(
        "bench", bundle, "--against", project.ref, "--samples", project.images, "--limit", "60",
        "--input", f"input:float32[batch,3,{SIDE},{SIDE}]", "--rounds", "5", "--json",
        "-o", "b.json", "--report", "b.html",
    )  # fmt: skip
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result == json.loads((tmp_path / "b.json").read_text())
    assert {"schema_version", "command", "environment", "baseline", "rows"} <= set(result)
    origin, pressed = result["rows"]
    assert set(origin) == set(pressed) == ROW
    assert result["baseline"] == origin["name"] == f"{project.ref} (PyTorch eager)"
    assert pressed["name"] == f"{bundle} (here)"
    assert (origin["engine"], pressed["engine"]) == ("torch", "openvino")
    assert pressed["quality"]["value"] == 1
    assert pressed["quality"]["metric"] == "accuracy / origin's accuracy"
    (file,) = bundle.glob("*.onnx")
    assert pressed["size_bytes"] == file.stat().st_size
    page = (tmp_path / "b.html").read_text()
    assert page.startswith("<!doctype html>")
    for row in (origin, pressed):
        assert row["name"] in page
        assert f"{row['latency_ms']['p50']:.2g}"[:3] in page


def test_files_at_several_batches(project_onnx: Path, shell: Shell, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.onnx").write_bytes(project_onnx.read_bytes())
    code, out, err = shell(
        "bench", "a/net.onnx", "b/net.onnx", "--against", "b/net.onnx", "--samples", "random:10",
        "--batch", "1,4", "--rounds", "5",
    )  # fmt: skip
    assert code == 0
    assert "random inputs" in err
    for words in ("batch 1, 5 rounds", "batch 4, 5 rounds"):
        assert words in out
    assert out.index("b/net.onnx") < out.index("a/net.onnx")
    assert all(len(line) <= 80 for line in out.splitlines())


def test_gates(project: Project, project_onnx: Path, shell: Shell, tmp_path: Path) -> None:
    """A model that repeats its work and one that forgot its weights."""
    slow = onnx.load(project_onnx)
    write_wrong(project_onnx, tmp_path / "wrong.onnx")
    conv = next(node for node in slow.graph.node if node.op_type == "Conv")
    previous = conv.output[0]
    work = []
    for index in range(40):
        again = onnx.helper.make_node("Erf", [previous], [f"again_{index}"])
        previous = again.output[0]
        work.append(again)
    zero = onnx.helper.make_node("Mul", [previous, "nothing"], ["nought"])
    last = onnx.helper.make_node("Add", [conv.output[0], "nought"], ["whole"])
    slow.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "nothing"))
    for node in slow.graph.node:
        if node is not conv:
            for index, name in enumerate(node.input):
                if name == conv.output[0]:
                    node.input[index] = "whole"
    where = list(slow.graph.node).index(conv) + 1
    for node in reversed([*work, zero, last]):
        slow.graph.node.insert(where, node)
    onnx.save(slow, tmp_path / "slow.onnx")
    words = ["bench", project_onnx, "slow.onnx", "wrong.onnx", "--samples", project.images,
             "--preprocess", PREPROCESS, "--limit", "100", "--rounds", "6", "--json"]  # fmt: skip
    code, out, _ = shell(*words)
    assert code == 3
    result = json.loads(out)
    assert [row["name"].partition(" ")[0] for row in result["rows"]] == [
        str(project_onnx), "slow.onnx",
    ]  # fmt: skip
    why = result["failures"]["wrong.onnx on onnxruntime"]
    assert why.startswith("its outputs are wrong: quality 0.")
    assert why.endswith("n=100); it was not timed")
    assert result["refused"]["wrong.onnx on onnxruntime"]["value"] < 0.5
    assert result["missed"] == [f"wrong.onnx on onnxruntime was refused: {why}"]
    code, out, _ = shell(*words, "--fail-if-slower", "10%", "--min-quality", "0.9")
    assert code == 3
    missed = json.loads(out)["missed"]
    assert any(line.startswith("slow.onnx on onnxruntime takes ") for line in missed)
    assert any("at worst, below 0.9; it was not timed" in line for line in missed)
    assert len(missed) == 2
    shell(*words, "--min-quality", "0.9", "--report", "gates.md")
    page = (tmp_path / "gates.md").read_text()
    assert "- gate missed: wrong.onnx on onnxruntime was refused: " in page
    assert "Nothing was recorded" not in page


def test_what_is_not_timed_is_seen(
    project: Project, project_onnx: Path, shell: Shell, tmp_path: Path
) -> None:
    """In the table, in the report and among the warnings; the exit code is 3."""
    write_wrong(project_onnx, tmp_path / "wrong.onnx")
    code, out, err = shell(
        "bench", project_onnx, "wrong.onnx", "--samples", project.images, "--preprocess",
        PREPROCESS, "--limit", "60", "--rounds", "5", "--report", "b.html",
    )  # fmt: skip
    assert code == 3
    (line,) = [line for line in out.splitlines() if "wrong.onnx" in line]
    assert line.startswith("✗")
    assert "warning: wrong.onnx on onnxruntime was refused: its outputs are wrong" in err
    page = (tmp_path / "b.html").read_text()
    assert "its outputs are wrong: quality 0." in page
    assert "not measured" in page


@pytest.mark.parametrize(
    ("name", "dims", "dtype", "found"),
    [
        ("picture", ("n", 3, SIDE, SIDE), "float32", "odd.onnx on onnxruntime takes picture:"),
        ("input", ("n", 3, SIDE, SIDE), "float64", "takes input: float64["),
        ("input", ("n", 3, SIDE), "float32", f"takes input: float32[n, 3, {SIDE}]"),
        ("input", ("n", 3, SIDE, SIDE + 1), "float32", f"{SIDE}, {SIDE + 1}]"),
    ],
)
def test_other_inputs_are_bad_input(
    name: str,
    dims: tuple[object, ...],
    dtype: str,
    found: str,
    project_onnx: Path,
    shell: Shell,
    tmp_path: Path,
) -> None:
    """Told before anything is scored or timed, with what was expected and what to do."""
    helper, kind = onnx.helper, getattr(TensorProto, {"float32": "FLOAT"}.get(dtype, "DOUBLE"))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [name], ["single"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["single"], ["flat"]),
            helper.make_node("ReduceMean", ["flat"], ["logits"], axes=[1], keepdims=1),
        ],
        "odd",
        [helper.make_tensor_value_info(name, kind, list(dims))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1])],
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "odd.onnx")
    code, out, err = shell("bench", project_onnx, "odd.onnx", "--samples", "random:4")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert found in err
    assert "; expected input: float32[" in err
    assert "bench models of the same inputs" in err


def test_a_model_of_one_batch_size(project: Project, tmp_path: Path) -> None:
    model = api.convert(
        project.ref, preprocess=PREPROCESS, shapes={"input": (2, 3, SIDE, SIDE)}
    ).model
    path = model.save(tmp_path / "two.onnx")
    samples = np.random.default_rng(0).standard_normal((9, 3, SIDE, SIDE)).astype(np.float32)
    (result,) = api.measure(
        [path], samples=samples, against=project.ref, preprocess=PREPROCESS, batches=[2],
        rounds=5, task="tensor",
    )  # fmt: skip
    quality = result.rows[1].quality
    assert quality is not None
    assert (quality.n, round(quality.value, 4)) == (9, 1)
    with pytest.raises(InputError, match="--batch 1; expected 2: the model takes no other"):
        api.measure([path], samples=samples, batches=[1])
    (alone,) = api.measure([path], samples=samples, rounds=5)
    assert alone.rows[0].batch == 2, "the only one there is"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--batch", "-1"], "--batch -1; expected batch sizes such as 1,8,32"),
        (["--batch", "0"], "--batch 0; expected"),
        (["--batch", "eight"], "--batch eight; expected batch sizes such as 1,8,32"),
        (["--batch", "100000000000"], "GB for its inputs and outputs alone; expected at most the"),
        (["--fail-if-slower", "5%"], "--fail-if-slower with one model; expected a baseline: give"),
        (["--min-quality", "2"], "--min-quality 2.0; expected a number of at most 1, such as"),
        (["--seconds", "0"], "--seconds 0; expected a number above 0"),
        (["--seconds", "nan"], "--seconds nan; expected a number above 0"),
        (["--compile"], "--compile with net.onnx on onnxruntime; expected a PyTorch reference"),
        (["--report", "b.pdf"], "--report b.pdf; expected a file that ends in .html or .md"),
        (["--length", "0"], "--length 0; expected numbers of tokens such as 16,64,256"),
        (["--length", "16"], "--length 16 for samples that are no texts; expected texts"),
        (["--against", "none:net"], "unknown source 'none'"),
        (["--against", "torch:none.py:make"], "none.py does not exist; expected a Python file"),
        (["--fail-if-slower", "x%"], "--fail-if-slower x%; expected a share such as 5% or 0.05"),
        (["--rounds", "0"], "--rounds 0; expected a number of at least 1"),
        (["--threads", "-2"], "--threads -2; expected a number of at least 1"),
        (["--fail-if-slower", "nan"], "--fail-if-slower nan; expected a share"),
        (["--fail-if-slower", "-5%"], "--fail-if-slower -5%; expected a share"),
        (["--fail-if-slower", "some"], "--fail-if-slower some; expected a share"),
        (["--min-quality", "nan"], "--min-quality nan; expected a number"),
        (["--engine", "abacus"], "unknown engine 'abacus'"),
        (["--task", "dance"], "unknown task 'dance'"),
        (["--report", "none/b.html"], "the folder of --report none/b.html does not exist"),
        (["-o", "."], "--output . is a folder"),
        (["none.onnx"], "none.onnx does not exist; expected an ONNX file"),
        (["text.onnx"], "text.onnx cannot be read as ONNX"),
        (["net.onnx"], "the same thing is benched twice"),
        (["folder"], "no source reads folder"),
    ],
)
def test_refusals(
    words: list[str], expected: str, project_onnx: Path, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "net.onnx").write_bytes(project_onnx.read_bytes())
    (tmp_path / "text.onnx").write_text("no model at all")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    code, out, err = shell("bench", "net.onnx", *words, "--samples", "random:4")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert sorted(tmp_path.iterdir()) == before


def test_what_the_provider_leaves_to_the_cpu_is_told(project_onnx: Path, shell: Shell) -> None:
    words = ("bench", project_onnx, "--samples", "random:6", "--rounds", "5")
    code, out, err = shell(*words, "--provider", "azure", "--json")
    assert code == 0
    result = json.loads(out)
    (row,) = result["rows"]
    assert len(row["fallbacks"]) > 3
    assert any("nodes fell back to the CPU: " in warning for warning in result["warnings"])
    code, _, err = shell(*words, "--provider", "cuda")
    assert (code, err.count("\n")) == (2, 1)
    assert "provider CUDAExecutionProvider is not in this onnxruntime" in err
    code, _, err = shell(*words, "--session", "speed=high")
    assert (code, err.count("\n")) == (2, 1)
    assert "onnxruntime has no session option 'speed'" in err
