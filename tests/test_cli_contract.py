"""What every command promises: exit codes, one-line errors, help with an example, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.parser
import pytest
import typer

from onnxpress import cli, registry
from onnxpress.commands import doctor as doctor_command
from onnxpress.errors import InputError
from zoo.bundles import write_bundle, write_model

COMMANDS = [name.replace("_", "-") for name in registry.names("commands")]
Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """``run(*words)``: exit code, stdout and stderr, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*words: str) -> Ran:
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(words))
        out, err = capsys.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return code, out, err

    return call


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["inspekt", "m.onnx"], "inspekt"),
        (["--nope"], "No such option: --nope"),
        (["inspect", "--nope", "m.onnx"], "--nope"),
        (["inspect"], "Missing argument 'model'"),
        (["inspect", "a", "b"], "unexpected extra argument"),
        (["press", "m.onnx"], "Missing option '--samples'"),
        (["press", "m.onnx", "--samples", "random:8", "--floor", "abc"], "'--floor'"),
        (["press", "m.onnx", "--samples", "random:8", "--batch", "1.5"], "'--batch'"),
        (["press", "m.onnx", "--samples", "random:8", "--objective", "size"], "'--objective'"),
        (["press", "m.onnx", "--samples"], "--samples"),
        (["press", "m.onnx", "--samples", ""], "--samples is empty"),
        (["press", "m.onnx", "--samples", "random:8", "--threads", "100000"], "--threads 100000"),
        (["press", "m.onnx", "--samples", "random:8", "--rounds", "4"], "--rounds 4; expected at"),
        (["bench", "m.onnx", "--samples", "random:8", "--rounds", "3"], "--rounds 3; expected at"),
        (["profile", "m.onnx", "--rounds", "0"], "--rounds 0; expected a number of at least 1"),
        (["convert", "m.onnx", "--input", "x:float32[2]"], "--input with an ONNX file"),
        (["optimize", "m.onnx", "--json=yes"], "--json"),
        (["inspect", "none.onnx"], "none.onnx does not exist; expected an ONNX file"),
        (["check", "none.onnx"], "none.onnx does not exist; expected an ONNX file"),
        (
            ["check", "m.onnx", "--isa", "MMX"],
            "--isa has the unknown instruction set 'MMX'; expected some of AVX2",
        ),
        (["diff", "m.onnx", "none.onnx"], "none.onnx does not exist; expected an ONNX file"),
        (["inspect", "."], "is a folder; expected an ONNX file"),
        (["optimize", "m.onnx", "--recipe", "fold"], "unknown pass 'fold'"),
        (["optimize", "m.onnx", "--recipe", "fold_constants(max_bytes=x)"], "expected int"),
        (["optimize", "m.onnx", "-o", "none/out.onnx"], "does not exist"),
        (["optimize", "m.onnx", "-o", "."], "is a folder"),
        (["run", "none", "x.npz"], "none is not a bundle"),
        (["run", "bundle"], "no input"),
        (["run", "bundle", "none.npz"], "none.npz"),
        (["verify", "m.onnx", "none.onnx"], "none.onnx"),
        (["convert", "nothing.at.all"], "nothing.at.all"),
        (["quantize", "m.onnx", "--scheme", "magic", "--samples", "random:64"], "magic"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(
    words: list[str], told: str, run: Run, tmp_path: Path
) -> None:
    write_model(tmp_path / "m.onnx")
    write_bundle(tmp_path / "bundle")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert told in err
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


@pytest.mark.parametrize("words", [["inspect"], ["check"], ["optimize"], ["diff", "m.onnx"]])
def test_a_model_of_maps_is_one_line_too(words: list[str], run: Run, tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    header = '<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 1]>'
    body = "(float[N,2] x) => (seq(map(int64, float[])) y) { y = ai.onnx.ml.ZipMap(x) }"
    onnx.save(onnx.parser.parse_model(f"{header} g {body}"), tmp_path / "maps.onnx")
    code, out, err = run(*words, "maps.onnx")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: maps.onnx: the output 'y' is no tensor but maps, as ZipMap")


def test_the_same_from_a_shell(tmp_path: Path) -> None:
    for words in (["nosuch"], ["press", "x", "--floor", "abc"], ["inspect", "none.onnx"]):
        done = subprocess.run(
            [sys.executable, "-m", "onnxpress", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_a_worked_example(name: str, run: Run) -> None:
    for flag in ("--help", "-h"):
        code, out, err = run(name, flag)
        assert (code, err) == (0, "")
        assert f"Example: onnxpress {name}" in " ".join(out.split())
    function = registry.get("commands", name.replace("-", "_"))
    assert function.__doc__
    assert function.__doc__.splitlines()[0].endswith(".")


def test_help_lists_every_command_and_no_word_is_help(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert f" {name} " in out
    assert run() == (0, out, "")


def test_the_version_is_the_packages(run: Run) -> None:
    from onnxpress import __version__

    assert run("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    "words", [["inspect", "m.onnx"], ["doctor"], ["optimize", "m.onnx"], ["check", "m.onnx"],
              ["diff", "m.onnx", "m.onnx"], ["verify", "m.onnx", "m.onnx"],
              ["run", "bundle", "x.npz"], ["profile", "m.onnx", "--rounds", "3"]]
)  # fmt: skip
def test_json_is_one_object_and_nothing_else(words: list[str], run: Run, tmp_path: Path) -> None:
    import numpy as np

    write_model(tmp_path / "m.onnx")
    write_bundle(tmp_path / "bundle")
    np.savez(tmp_path / "x.npz", x=np.array([[0, 1, np.nan]], np.float32))
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1

    def refuse(word: str) -> object:
        raise AssertionError(f"{word} is no JSON")

    data = json.loads(out, parse_constant=refuse)
    assert data["schema_version"] == 1
    assert data["command"] == words[0]


def test_inspect_says_what_it_must(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    data = json.loads(run("inspect", "m.onnx", "--json")[1])
    assert data["nodes"] == 2
    assert data["ops"] == {"Add": 1, "Relu": 1}
    assert data["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["n", 3]}]
    assert data["parameters"] == 3
    assert data["size_bytes"] == pytest.approx((tmp_path / "m.onnx").stat().st_size, rel=0.01)
    keys = {"outputs", "macs", "opsets", "ir_version", "metadata", "redundant", "fusions"}
    assert keys <= set(data)


def test_doctor_says_what_it_must(run: Run) -> None:
    data = json.loads(run("doctor", "--json")[1])
    assert {"engines", "providers", "cpu", "threads", "versions"} <= set(data)
    assert data["engines"]["onnxruntime"]["available"] is True


def replaced(monkeypatch: pytest.MonkeyPatch, outcome: int | BaseException) -> None:
    """``onnxpress doctor`` returns or raises ``outcome``."""

    def doctor() -> int:
        """Do what the test says."""
        if isinstance(outcome, int):
            return outcome
        raise outcome

    monkeypatch.setattr(doctor_command, "doctor", doctor)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_what_a_command_returns_is_the_exit_code(
    code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(monkeypatch, code)
    assert run("doctor") == (code, "", "")


def test_a_command_may_return_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_command, "doctor", lambda: None)
    assert run("doctor") == (0, "", "")


def test_an_error_of_many_lines_is_told_in_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, InputError("a\n b", "c\nd", "e."))
    assert run("doctor") == (2, "", "error: a b; expected c d; e\n")


def test_so_is_a_usage_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, typer.BadParameter("a\n b."))
    assert run("doctor") == (2, "", "error: Invalid value: a b; see --help\n")


def test_an_interrupt_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, KeyboardInterrupt())
    code, out, err = run("doctor")
    assert (code, out, err.strip()) == (130, "", "interrupted")


def test_so_is_an_error_that_an_interrupt_became(tmp_path: Path) -> None:
    text = """
import os, signal, time
from onnxpress import cli
from onnxpress.errors import EngineError
def stop(**_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        raise EngineError("openvino failed (initialization failed)") from None
cli.app = lambda: stop
cli.main(["x"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


def test_a_second_signal_changes_nothing(tmp_path: Path) -> None:
    text = """
import os, signal, sys, time
from onnxpress import cli
def stop(**_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
class Late:
    def write(self, text):
        os.kill(os.getpid(), signal.SIGTERM)
        sys.__stderr__.write(text)
    def flush(self):
        pass
cli.app = lambda: stop
sys.stderr = Late()
cli.main(["x"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


def test_being_terminated_is_an_interrupt(tmp_path: Path) -> None:
    text = """
import os, signal, time
from onnxpress import cli
def stop(**_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
cli.app = lambda: stop
cli.main(["x"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


def test_an_interrupt_within_exec_is_130_too(tmp_path: Path) -> None:
    text = """
from onnxpress import cli
cli.app = lambda: lambda **_: exec("raise KeyboardInterrupt")
cli.main()
"""
    (tmp_path / "stopped.py").write_text(text)
    ran = subprocess.run(
        [sys.executable, "-m", "stopped"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("bug", [ValueError("oops"), KeyError("x"), AssertionError("no")])
def test_a_bug_keeps_its_traceback(bug: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, bug)
    with pytest.raises(type(bug)) as caught:
        cli.main(["doctor"])
    assert caught.value is bug


def test_a_bug_ends_the_process_with_1_and_a_traceback() -> None:
    code = (
        "from onnxpress import cli\n"
        "from onnxpress.commands import doctor\n"
        "def broken():\n    raise ValueError('oops')\n"
        "doctor.doctor = broken\n"
        "cli.main(['doctor'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ValueError: oops\n")


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["--help"], ["run", "-h"]])
def test_a_reader_that_leaves_is_no_error(words: list[str]) -> None:
    """As in ``onnxpress doctor | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "onnxpress", *words],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_of_another_package_that_cannot_be_loaded_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = registry._modules
    monkeypatch.setattr(
        registry,
        "_modules",
        lambda socket: {**known(socket), "broken": "no_such_package.command"},
    )
    code, _, err = run("doctor")
    assert code == 2
    assert err.startswith("error: command 'broken' cannot be loaded from no_such_package.command")
    assert "upgrade or uninstall" in err


def test_trust_is_warned_of(run: Run, tmp_path: Path) -> None:
    code, out, err = run("convert", "sklearn:no.joblib", "--trust", "-o", str(tmp_path / "m.onnx"))
    assert (code, out) == (2, "")
    warning, error = err.splitlines()
    assert warning.startswith("warning: --trust: what is in the model's files runs as a program")
    assert error.startswith("error: no.joblib does not exist")
