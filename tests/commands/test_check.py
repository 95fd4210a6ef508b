"""``onnxpress check`` as people use it: what ONNX Runtime itself says, targets, exit codes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import onnxpress
from conftest import Shell
from onnxpress.recipe import Recipe
from zoo.graphs import parse

DOUBLE = """(double[N,4] x) => (double[N,4] y)
            { a = Erf(x) b = Cos(a) c = Softplus(b) y = Erf(c) }"""
HALF = "(float16[N,4] x) => (float16[N,4] y) { a = Erf(x) y = Softplus(a) }"
MASK = "(float[N,4] x, bool[N,4] q) => (float[N,4] y) { y = Where(q, x, m) }"
LARGE = "(float[N,4] x) => (float[N,4] y) { h = Exp(x) y = Mul(h, h) }"


@pytest.fixture
def checked(shell: Shell) -> Callable[..., tuple[int, dict[str, Any]]]:
    """``checked(*words)``: the exit code and the JSON of ``onnxpress check``."""

    def call(*words: object) -> tuple[int, dict[str, Any]]:
        code, out, err = shell("check", *words, "--json")
        assert err == ""
        return code, json.loads(out)

    return call


Checked = Callable[..., tuple[int, dict[str, Any]]]


@pytest.mark.parametrize("name", ["cnn", "mlp", "transformer_torchscript"])
def test_an_export_has_no_error_and_no_warning(
    name: str, zoo_model: Callable[[str], Path], checked: Checked
) -> None:
    code, data = checked(zoo_model(name))
    assert (code, data["ok"]) == (0, True)
    assert {finding["level"] for finding in data["findings"]} <= {"info"}
    assert {finding["check"] for finding in data["findings"]} <= {"redundant_nodes"}
    assert data["skipped"] == {}
    assert data["target"]["runtime"] == onnxruntime.__version__


def test_operators_without_a_kernel_are_those_that_onnxruntime_lacks(
    checked: Checked, tmp_path: Path
) -> None:
    path = parse(DOUBLE, opset=20, ir_version=9).save(tmp_path / "double.onnx")
    code, data = checked(path)
    assert (code, data["ok"]) == (3, False)
    found = [(f["check"], f["level"], f["op"]) for f in data["findings"]]
    assert found == [("operator_support", "error", op) for op in ("Erf", "Softplus", "Erf")]
    assert "no Erf for double" in data["findings"][0]["what"]
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_float16_that_is_computed_in_float32_is_a_note(checked: Checked, tmp_path: Path) -> None:
    code, data = checked(parse(HALF, opset=20, ir_version=9).save(tmp_path / "half.onnx"))
    [finding] = data["findings"]
    assert (code, finding["check"], finding["level"]) == (0, "operator_support", "info")
    assert "2 Cast added" in finding["what"]


def test_the_fix_for_an_old_runtime_works(
    zoo_model: Callable[[str], Path], checked: Checked, shell: Shell, tmp_path: Path
) -> None:
    model = onnxpress.load(zoo_model("mlp"))
    model.ir.ir_version = 10  # as exporters write it, whatever the opset
    path = model.save(tmp_path / "new.onnx")
    code, data = checked(path, "--runtime", "onnxruntime==1.12")
    errors = [finding for finding in data["findings"] if finding["level"] == "error"]
    assert code == 3
    assert [finding["where"] for finding in errors] == ["opset 18", "IR version 10"]
    program, *words = shlex.split(errors[0]["fix"])
    assert program == "onnxpress"
    assert shell(*words)[0] == 0
    code, data = checked(words[-1], "--runtime", "onnxruntime==1.12")
    assert (code, data["ok"]) == (0, True)


def test_an_ir_version_alone_is_lowered_too(checked: Checked, shell: Shell, tmp_path: Path) -> None:
    path = parse(LARGE, opset=17, ir_version=10).save(tmp_path / "m.onnx")
    _, data = checked(path, "--runtime", "1.12")
    [error] = [finding for finding in data["findings"] if finding["level"] == "error"]
    assert error["where"] == "IR version 10"
    assert shell(*shlex.split(error["fix"])[1:])[0] == 0
    assert onnxpress.load("m-opset17.onnx").ir.ir_version == 8
    assert checked("m-opset17.onnx", "--runtime", "1.12")[0] == 0


def test_samples_show_activations_that_overflow(checked: Checked, tmp_path: Path) -> None:
    path = parse(LARGE).save(tmp_path / "m.onnx")
    assert checked(path)[1]["findings"] == []
    np.savez(tmp_path / "x.npz", x=np.full((2, 4), 9, np.float32))
    code, data = checked(path, "--samples", tmp_path / "x.npz")
    [finding] = data["findings"]
    assert (code, finding["check"], finding["level"]) == (0, "numeric_range", "warning")
    assert finding["where"] == "y"
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), np.float32))
    assert checked(path, "--samples", tmp_path / "x.npz")[1]["findings"] == []


def test_a_provider_that_is_installed_tells_what_it_runs(checked: Checked, tmp_path: Path) -> None:
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no second provider")
    path = parse(LARGE).save(tmp_path / "m.onnx")
    _, data = checked(path, "--provider", "azure")
    [finding] = data["findings"]
    assert (finding["check"], finding["level"]) == ("cpu_fallback", "warning")
    assert "AzureExecutionProvider runs none of the 2 nodes" in finding["what"]


def test_isa_and_provider_options_are_the_targets(checked: Checked, tmp_path: Path) -> None:
    path = parse(LARGE).save(tmp_path / "m.onnx")
    words = ("--isa", "avx2,fma", "--provider", "OpenVINOExecutionProvider:device_type=NPU")
    code, data = checked(path, *words)
    assert data["target"]["isa"] == ["AVX2", "FMA"]
    assert code == 3
    [error] = [finding for finding in data["findings"] if finding["level"] == "error"]
    assert (error["check"], error["where"]) == ("dynamic_axes", "x")


@pytest.mark.parametrize(
    ("fields", "saturating"),
    [("weight_bits=8", True), ("weight_bits=7", False), ("reduce_range=True", False)],
)
def test_what_quantize_makes_saturates_without_vnni_unless_weights_leave_room(
    fields: str,
    saturating: bool,
    zoo_model: Callable[[str], Path],
    checked: Checked,
    tmp_path: Path,
) -> None:
    recipe = Recipe.parse(f"quantize_dynamic({fields})")
    path = recipe.apply(onnxpress.load(zoo_model("mlp")))[0].save(tmp_path / "int8.onnx")
    code, data = checked(path, "--isa", "AVX2,FMA")
    found = [f for f in data["findings"] if f["check"] == "int8_risks"]
    assert code == 0
    assert any("products saturate" in f["what"] for f in found) == saturating
    assert any("may be slower" in f["what"] for f in found)
    _, data = checked(path, "--isa", "AVX2,AVX512_VNNI")
    assert not [f for f in data["findings"] if f["check"] == "int8_risks"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--provider", "CUDAExecutionProvidr"], "one such as CUDAExecutionProvider"),
        (["--provider", "TensorRT:trt"], "NAME or NAME:key=value"),
        (["--isa", "AVX511"], "did you mean AVX512?"),
        (["--isa", "FOO"], "expected some of AVX2, FMA, AVX512,"),
        (["--runtime", "openvino==2025"], "such as onnxruntime==1.16"),
        (["--custom-ops", "no.so"], "no.so does not exist"),
        (["--samples", "no.npz"], "no.npz"),
    ],
)
def test_bad_targets_are_one_line(
    words: list[str], told: str, shell: Shell, tmp_path: Path
) -> None:
    path = parse(LARGE).save(tmp_path / "m.onnx")
    code, out, err = shell("check", path, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err


def test_findings_alike_are_one_on_the_screen(shell: Shell, tmp_path: Path) -> None:
    path = parse(DOUBLE, opset=20, ir_version=9).save(tmp_path / "double.onnx")
    code, out, _ = shell("check", path)
    assert code == 3
    assert "✗ operator_support: " in out
    assert out.count("no Erf for double") == 1
    assert out.count("✗ ") == 2
    assert out.split()[-2:] == ["2", "errors"], "what is counted is what is shown"
    assert shell("check", path, "-q") == (3, "", "")
    clean = parse(LARGE).save(tmp_path / "clean.onnx")
    assert shell("check", clean)[1].split()[-2:] == ["nothing", "found"]


def test_a_warning_is_no_failure(shell: Shell, tmp_path: Path) -> None:
    path = parse(MASK, m=np.float32(-1e9)).save(tmp_path / "mask.onnx")
    code, out, _ = shell("check", path)
    assert code == 0
    assert "! numeric_range: m" in out


def test_a_model_in_memory_is_checked_as_it_is(tmp_path: Path) -> None:
    path = parse(LARGE).save(tmp_path / "m.onnx")
    model = onnxpress.load(path)
    assert onnxpress.check(model).findings == ()
    model.ir.opset_imports[""] = 28
    assert [f.check for f in onnxpress.check(model).findings] == ["opset_support"]
    assert onnxpress.check(path).ok


def test_a_fix_is_told_once_and_mends_all(shell: Shell, tmp_path: Path) -> None:
    text = """(float[N,4] x) => (float[N,4] y)
              { a = Identity(x) b = Exp(a) c = Cast<to=1>(b) d = Mul(c, one) y = Neg(d) }"""
    path = parse(text, one=np.float32(1)).save(tmp_path / "m.onnx")
    out = shell("check", path)[1]
    assert out.count("· redundant_nodes") == 3
    assert out.split()[-2:] == ["3", "notes"]
    [fix] = [line.strip(" →") for line in out.splitlines() if "→" in line]
    assert shell(*shlex.split(fix)[1:])[0] == 0
    assert shell("check", "m-optimized.onnx")[1].endswith("nothing found\n")


def test_gelu_goes_down_to_an_older_runtime(checked: Checked, shell: Shell, tmp_path: Path) -> None:
    """A way that the converter of onnx lacks: ``No Previous Version of Gelu exists``."""
    text = """(float[N,4] x) => (float[N,4] y)
              { a = Gelu(x) b = Gelu<approximate="tanh">(a) q = IsNaN(b) y = Where(q, x, b) }"""
    path = parse(text, opset=21, ir_version=10).save(tmp_path / "m.onnx")
    _, data = checked(path, "--runtime", "1.16")
    errors = [finding for finding in data["findings"] if finding["level"] == "error"]
    assert len(errors) == 2
    assert shell(*shlex.split(errors[0]["fix"])[1:])[0] == 0
    code, data = checked("m-opset19.onnx", "--runtime", "1.16")
    assert (code, data["ok"]) == (0, True)


def test_where_there_is_no_way_down_another_one_is_told(checked: Checked, tmp_path: Path) -> None:
    text = "(float[2,2,3] t, int64[4] s) => (float[g,h,w,c] y) { y = AffineGrid(t, s) }"
    path = parse(text, opset=20, ir_version=9).save(tmp_path / "m.onnx")
    _, data = checked(path, "--runtime", "1.16")
    why, again, newer = next(f for f in data["findings"] if f["level"] == "error")["fix"].split(
        "\n"
    )
    assert "cannot be converted to 19" in why
    assert "AffineGrid" in why
    assert "onnxpress convert SOURCE --opset 19" in again
    assert newer == "or run it with ONNX Runtime 1.17 or newer"


def test_ranges_fit_their_axes(checked: Checked, tmp_path: Path) -> None:
    text = """(int64[batch, sequence] i, float[batch, 3, height, width] p) => (float[batch, c] y)
              { a = Cast<to=1>(i) m = ReduceMean<keepdims=0>(p) y = Add(a, m) }"""
    path = parse(text).save(tmp_path / "m.onnx")
    _, data = checked(path, "--provider", "tensorrt")
    finding = next(f for f in data["findings"] if f["check"] == "dynamic_axes")
    fixed, ranges = finding["fix"].split("\n")
    assert " --fix batch=1 --fix sequence=128 --fix height=224 --fix width=224 " in fixed
    assert "trt_profile_min_shapes=i:1x1,p:1x3x32x32," in ranges
    assert "trt_profile_opt_shapes=i:8x128,p:8x3x224x224," in ranges
    assert "trt_profile_max_shapes=i:32x512,p:32x3x1024x1024" in ranges
    words = shlex.split(ranges[ranges.index("onnxpress check") :])[2:]
    _, data = checked(*words)
    assert not [f for f in data["findings"] if f["check"] == "dynamic_axes"]
