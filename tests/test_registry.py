"""Plug-ins are found by being there: in a folder of the package, or by an entry point."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import onnxpress
from onnxpress import registry
from onnxpress.calibrator import Calibrator
from onnxpress.errors import PluginError
from onnxpress.recipe import Pass, Recipe
from zoo.graphs import parse
from zoo.plugins import distribution

PASS = '''
from dataclasses import dataclass
from onnxpress.recipe import Change, Pass

@dataclass(frozen=True)
class Renamed(Pass):
    """``Relu(x)`` → ``Relu(x)``, with another name."""

    to: str = "renamed"

    def rewrite(self, model, facts):
        found = [n for n in model.nodes() if n.op_type == "Relu" and n.name != self.to]
        for node in found:
            node.name = self.to
        return Change(len(found))
'''
PRIVATE = """
class _Private(Renamed):
    pass
"""
COMMAND = '''
import typer

def my_command(word: str = typer.Option("hello")) -> int:
    """Say a word.

    Example: onnxpress my-command
    """
    print(f"said {word}")
    return 3
'''


def run(*words: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onnxpress", *words],
        env={**os.environ, "PYTHONPATH": str(path), "COLUMNS": "100"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("socket", registry.CONTRACTS)
def test_every_file_of_a_folder_is_a_plug_in(socket: str) -> None:
    folder = Path(onnxpress.__file__).parent / socket
    files = {path.stem.rstrip("_") for path in folder.glob("*.py") if path.name[0] != "_"}
    assert files
    assert files <= set(registry.names(socket))
    assert list(registry.names(socket)) == sorted(registry.names(socket))
    for name in files:
        assert registry.get(socket, name).__module__.startswith(f"onnxpress.{socket}.{name}")


def test_names_imports_no_plug_in() -> None:
    code = (
        "import sys; from onnxpress import registry\n"
        "for socket in registry.CONTRACTS: registry.names(socket)\n"
        "print([m for m in sys.modules if m.startswith('onnxpress.') and m.count('.') > 1])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(PluginError, match=r"unknown pass 'fold'; expected one of .*fold_constants"):
        registry.get("passes", "fold")
    with pytest.raises(PluginError, match=r"unknown socket 'sockets'; expected one of .*passes"):
        registry.names("sockets")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fuse_gelo", r"unknown pass 'fuse_gelo'; expected one of fuse_gelu(, \w+){,2}$"),
        ("defalt", r"unknown pass 'defalt'; expected one of default$"),
        ("xyzzy", r"unknown pass 'xyzzy'; expected one of (\w+, ){8}…; see docs/passes.md$"),
    ],
)
def test_names_that_are_near_are_told(name: str, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        Recipe.parse(f"eliminate_dead,{name}", {"default": "fold_constants"})


def test_create_is_typed_by_its_contract() -> None:
    assert isinstance(registry.create(Calibrator, "calibrators", "minmax"), Calibrator)


def test_an_entry_point_is_a_plug_in_by_its_own_name(installed) -> None:
    installed("[onnxpress.passes]\nmy_pass = plugpack.rewriting:Renamed\n", rewriting=PASS)
    assert "my_pass" in registry.names("passes")
    model = parse("(float[2] x) => (float[2] y) { y = Relu(x) }")
    recipe = Recipe.parse("my_pass(to=other)")
    assert str(recipe) == "my_pass(to=other)"
    after, change = recipe.apply(model)
    assert change.rewrites == 1
    assert after.journal.entries[0].step == "my_pass(to=other)"


def test_an_entry_point_may_name_the_module_alone(installed) -> None:
    installed("[onnxpress.passes]\nmy_pass = plugpack.my_pass\n", my_pass=PASS + PRIVATE)
    assert registry.get("passes", "my_pass").__name__ == "Renamed"


def test_the_same_entry_point_twice_is_one_plug_in(installed, tmp_path: Path) -> None:
    points = "[onnxpress.passes]\nmy_pass = plugpack.my_pass\n"
    installed(points, my_pass=PASS)
    copy = tmp_path / "again" / "plugpack-1.0.dist-info"
    shutil.copytree(tmp_path / "site" / copy.name, copy)
    sys.path.insert(0, str(copy.parent))
    try:
        assert registry.names("passes").count("my_pass") == 1
    finally:
        sys.path.remove(str(copy.parent))


def test_two_plug_ins_of_one_name_are_an_error_that_names_both(installed) -> None:
    installed("[onnxpress.passes]\nfold_constants = plugpack.my_pass:Renamed\n", my_pass=PASS)
    told = r"two passes are called 'fold_constants': onnxpress\.passes\.fold_constants and plugpack"
    with pytest.raises(PluginError, match=told):
        registry.names("passes")
    with pytest.raises(PluginError, match=told):
        registry.get("passes", "eliminate_dead")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            PASS.replace("    to:", "    api_version = 0\n    to:"),
            "made for api_version 0.*api_version 1",
        ),
        (PASS + "\nclass Second(Renamed):\n    pass\n", "holds 2 passes; expected one"),
        ("", "holds 0 passes; expected one, called 'my_pass'"),
        ("import no_such_package", r"cannot be loaded from plugpack\.my_pass \(No module named"),
        ("from onnxpress.passes.fold_constants import FoldConstants", "holds 0 passes"),
    ],
)
def test_a_file_that_is_no_plug_in_says_why(installed, text: str, told: str) -> None:
    installed("[onnxpress.passes]\nmy_pass = plugpack.my_pass\n", my_pass=text)
    with pytest.raises(PluginError, match=told):
        registry.get("passes", "my_pass")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("plugpack.my_pass:Missing", r"cannot be loaded from plugpack\.my_pass:Missing"),
        ("plugpack.my_pass:Renamed.rewrite", "expected a subclass of Pass"),
        ("onnxpress.calibrators.minmax:MinMax", "expected a subclass of Pass"),
        ("plugpack.nowhere", r"cannot be loaded from plugpack\.nowhere"),
    ],
)
def test_an_entry_point_that_leads_nowhere_says_so(installed, target: str, told: str) -> None:
    installed(f"[onnxpress.passes]\nmy_pass = {target}\n", my_pass=PASS)
    with pytest.raises(PluginError, match=told):
        registry.get("passes", "my_pass")


def test_a_built_in_that_cannot_be_imported_is_a_bug_and_keeps_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "onnxpress.passes.eliminate_dead", raising=False)
    monkeypatch.setitem(sys.modules, "onnxpress.passes.eliminate_dead", None)
    with pytest.raises(ImportError):
        registry.get("passes", "eliminate_dead")


def test_private_files_and_foreign_classes_are_no_plug_ins() -> None:
    assert not [name for name in registry.names("passes") if name.startswith("_")]
    assert issubclass(registry.get("passes", "eliminate_dead"), Pass)


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    model = parse("(float[2] x) => (float[2] y) { y = Relu(x) }")
    return model.save(tmp_path / "m.onnx")


def adopted(path: Path, cwd: Path) -> None:
    """The new pass and command work, by the command line, with ``path`` on Python's path."""
    done = run("optimize", "m.onnx", "--recipe", "my_pass", "-o", "out.onnx", path=path, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert [node.name for node in onnxpress.load(cwd / "out.onnx").nodes()] == ["renamed"]
    said = run("my-command", "--word", "hey", path=path, cwd=cwd)
    assert (said.returncode, said.stdout) == (3, "said hey\n")
    assert "my-command" in run("--help", path=path, cwd=cwd).stdout
    assert "Example: onnxpress my-command" in run("my-command", "-h", path=path, cwd=cwd).stdout


def test_another_package_brings_a_pass_and_a_command(tmp_path: Path, relu: Path) -> None:
    points = (
        "[onnxpress.passes]\nmy_pass = plugpack.rewriting:Renamed\n"
        "[onnxpress.commands]\nmy_command = plugpack.my_command\n"
    )
    site = distribution(tmp_path / "site", points, rewriting=PASS, my_command=COMMAND)
    source = Path(onnxpress.__file__).parents[1]
    adopted(Path(f"{site}{os.pathsep}{source}"), relu.parent)


def test_a_new_pass_and_a_new_command_are_one_new_file_each(tmp_path: Path, relu: Path) -> None:
    source, copy = Path(onnxpress.__file__).parent, tmp_path / "src" / "onnxpress"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "passes" / "my_pass.py").write_text(PASS)
    (copy / "commands" / "my_command.py").write_text(COMMAND)
    adopted(copy.parent, relu.parent)
