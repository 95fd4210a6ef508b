"""The face of the package: its names, and what importing and opening a bundle do not import."""

from __future__ import annotations

import builtins
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxpress
from zoo.bundles import write_bundle

HEAVY = (
    "torch", "tensorflow", "sklearn", "onnx", "onnx_ir", "onnxscript", "jinja2", "matplotlib",
    "pandas",
)  # fmt: skip
ENGINES = ("onnxruntime", "openvino")

PREDICT = """
import numpy as np, onnxpress
with onnxpress.open(sys.argv[1]) as predictor:
    x = np.arange(3, dtype=np.float32)
    [row] = predictor.predict([{"x": x}])
    assert np.allclose(row["y"], np.maximum(x - 1, 0)), row
    print(json.dumps({"form": predictor.form.name, "skipped": predictor.skipped}))
"""
HIDE = """
from importlib.machinery import PathFinder
class Hidden:
    find_distributions = staticmethod(PathFinder.find_distributions)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.argv[2].split(","):
            return PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden()
"""
"""As if the packages of the second argument were not installed."""


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import json, sys\n" + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "b", engines=ENGINES)


def test_every_name_is_what_it_says_with_every_module_imported() -> None:
    for module in pkgutil.walk_packages(onnxpress.__path__, "onnxpress."):
        if module.name != "onnxpress.__main__":  # it runs the command line
            importlib.import_module(module.name)
    for name in onnxpress.__all__:
        value = getattr(onnxpress, name)
        assert not inspect.ismodule(value), name
        if name == "__version__":
            assert isinstance(value, str)
        elif name[0].isupper():
            assert inspect.isclass(value), name
            assert value.__name__ == name
        else:
            assert inspect.isfunction(value), name
            assert value.__name__ == name
            home = value.__module__.removeprefix("onnxpress.").partition(".")[0]
            assert home in ("api", "model", "predictor")
            assert value.__doc__
            assert value is not getattr(builtins, name, None)


def test_all_names_each_thing_once_and_dir_agrees() -> None:
    assert len(set(onnxpress.__all__)) == len(onnxpress.__all__)
    assert set(onnxpress.__all__) == {*onnxpress._HOME, "__version__"}
    assert dir(onnxpress) == sorted(onnxpress.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = onnxpress.nothing  # type: ignore[attr-defined]  # that is the point


@pytest.mark.parametrize(
    "code",
    [
        "import onnxpress",
        "from onnxpress.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from onnxpress.cli import main\ntry: main(['press', '-h'])\nexcept SystemExit: pass",
        "import onnxpress; onnxpress.open, onnxpress.OnnxpressError, onnxpress.Samples",
        PREDICT,
    ],
    ids=["import", "help", "press-help", "names", "open-and-predict"],
)
def test_nothing_heavy_is_imported(code: str, bundle: Path) -> None:
    report = "\nprint('|' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    imported = set(json.loads(python(code + report, str(bundle)).rpartition("|")[2]))
    assert imported.isdisjoint(HEAVY)
    if code != PREDICT:
        assert imported.isdisjoint(ENGINES)


@pytest.mark.parametrize(("hidden", "runs"), [ENGINES, ENGINES[::-1]])
def test_a_bundle_needs_one_engine_and_no_graph_library(
    hidden: str, runs: str, bundle: Path
) -> None:
    answer = json.loads(python(HIDE + PREDICT, str(bundle), ",".join((*HEAVY, hidden))))
    assert answer["form"] == f"{runs}-float32"
    if runs == ENGINES[1]:
        told = f"{hidden} is not available; run: pip install 'onnxpress[{hidden}]'"
        assert answer["skipped"] == {f"{hidden}-float32": told}


def test_without_any_engine_the_error_says_what_to_install(bundle: Path) -> None:
    code = """
import onnxpress
try: onnxpress.open(sys.argv[1])
except onnxpress.OnnxpressError as error: print(error)
"""
    told = python(HIDE + code, str(bundle), ",".join((*HEAVY, *ENGINES)))
    for engine in ENGINES:
        assert f"pip install 'onnxpress[{engine}]'" in told


def test_predictions_are_the_models(bundle: Path) -> None:
    with onnxpress.open(bundle) as predictor:
        rows = [np.full(3, value, np.float32) for value in range(40)]
        assert [float(row["y"][0]) for row in predictor.predict(rows)] == [
            max(value - 1.0, 0.0) for value in range(40)
        ]
