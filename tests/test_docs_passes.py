"""docs/passes.md says what the docstrings say, and its pass of one's own works as it stands."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import onnxpress
from onnxpress.model import load
from onnxpress.verbs.optimize import RECIPES
from zoo.graphs import parse
from zoo.plugins import distribution

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "passes.md"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's package as ``pip install`` leaves it: the files, and its entry points."""
    folder = tmp_path_factory.mktemp("site")
    files = files_of(PAGE.read_text(encoding="utf-8"))
    project = tomllib.loads(files["pyproject.toml"])["project"]
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in found.items())
        for group, found in project["entry-points"].items()
    )
    distribution(folder, points)
    (folder / "my_passes").mkdir()
    (folder / "my_passes" / "__init__.py").touch()
    (folder / "tests").mkdir()
    for name, text in files.items():
        if name.endswith(".py"):
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def files_of(page: str) -> dict[str, str]:
    """File name → what the page shows of it: a block of code below its name."""
    return dict(re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))


def run(*words: object, site: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (site, Path(onnxpress.__file__).parents[1])))
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_is_what_the_docstrings_say(generate: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert generate.page(text) == text, "run: make docs"
    assert generate.page(text.replace("### eliminate_dead", "### gone")) == text


def test_every_pass_is_there_once_under_what_it_is_for(generate: ModuleType) -> None:
    passes = generate.built_in()
    told = [kind for *_, group in generate.groups(passes, RECIPES) for kind in group]
    assert sorted(kind().name for kind in told) == sorted(passes)
    grouped = {title: group for title, _, group in generate.groups(passes, RECIPES)}
    assert passes["eliminate_dead"] in grouped["`--target portable`"]
    assert passes["fuse_attention"] in grouped["`--target onnxruntime`"]
    assert passes["quantize_static"] in grouped["Quantisation"]
    assert passes["upgrade_opset"] in grouped["On request"]


def test_every_pass_begins_with_its_equation(generate: ModuleType) -> None:
    for name, kind in generate.built_in().items():
        first = (kind.__doc__ or "").split("\n\n")[0]
        assert re.match(r"``.*→.*``", first, re.DOTALL), name


def test_the_pages_own_test_passes(site: Path) -> None:
    ran = run("pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests", site=site)
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout


def test_the_pages_test_can_fail(site: Path, tmp_path: Path) -> None:
    text = (site / "my_passes" / "merge_scales.py").read_text(encoding="utf-8")
    shutil.copytree(site, tmp_path / "site")
    wrong = tmp_path / "site" / "my_passes" / "merge_scales.py"
    wrong.write_text(text.replace("a * b)", "a + b)"), encoding="utf-8")
    ran = run("pytest", "-q", "-p", "no:cacheprovider", "tests", site=tmp_path / "site")
    assert ran.returncode == 1
    assert "test_two_scales_become_one" in ran.stdout


def test_the_pages_command_finds_the_pass(site: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    words = re.findall(r"^onnxpress (optimize m\.onnx .*)$", page, re.MULTILINE)
    assert len(words) == 1
    text = """(float[n] x) => (float[n] y) <float a = {2}, float b = {3}> {
        z = Mul(x, a)
        y = Mul(z, b)
    }"""
    parse(text).save(site / "m.onnx")
    ran = run("onnxpress", *words[0].split(), site=site)
    assert ran.returncode == 0, ran.stderr
    assert load(site / "smaller.onnx").op_counts() == {"Mul": 1}
    steps = [entry.step for entry in load(site / "smaller.onnx").journal.entries]
    assert "merge_scales" in steps
