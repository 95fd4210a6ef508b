"""The page of a profile: whole, offline, and safe with hostile names."""

from __future__ import annotations

import re

import pytest

from onnxpress.report import sorting
from onnxpress.report.profile import bars, render_profile

NODE = {
    "name": "node_MatMul_1", "op": "MatMul", "provider": "CPU", "ms": 3.0, "share": 0.75,
    "macs": 10**8, "gflops": 66.7, "peak_share": 0.5, "module": "encoder.layer.0", "calls": 1,
    "precision": "float32", "implementation": "brgemm", "bytes": 10**6, "gbytes_per_s": 0.3,
    "layers": ["node_MatMul_1"],
}  # fmt: skip
IDLE = {
    **NODE, "name": "softmax", "op": "Softmax", "ms": 1.0, "share": 0.25, "macs": 0,
    "gflops": None, "peak_share": None, "module": "",
}  # fmt: skip
RESULT = {
    "schema_version": 1, "command": "profile", "model": "m.onnx on onnxruntime",
    "engine": "onnxruntime", "threads": 2, "batch": 8, "shapes": {"x": [8, 16]}, "total_ms": 4.5,
    "nodes_ms": 4.0, "untold_ms": 0.5, "profiled_ms": 5.0, "runs": 30, "method": "means",
    "peak_gflops": 133.0, "verdict": ["75% of the time is in 1 matrix product.", "More."],
    "nodes": [NODE, IDLE], "by_op": [{**NODE, "name": "MatMul", "count": 1}],
    "modules_alike": [{**NODE, "name": "encoder.layer.*", "count": 1}],
    "environment": {"machine": {"cpu": "A CPU"}, "time_utc": "2026-01-01"},
    "warnings": ["this machine was busy"],
}  # fmt: skip


def test_the_page_tells_it_all_and_fetches_nothing() -> None:
    page = render_profile(RESULT)
    for told in (
        "75% of the time is in 1 matrix product.", "node_MatMul_1", "encoder.layer.*", "softmax",
        "this machine was busy", "4.50\u00a0ms", "x 8×16", "A CPU", "66.7 GFLOP/s, 50 %",
    ):  # fmt: skip
        assert told in page
    assert sorting.source() in page, "its policy allows the script that sorts, and no other"
    assert not re.search(r"(src|href)=|url\(", page)
    assert "default-src 'none'" in page


def test_names_are_escaped() -> None:
    page = render_profile({**RESULT, "nodes": [{**NODE, "name": "<script>x</script>"}]})
    assert page.count("<script") == 1, "the one that sorts"
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("gone", [key for key in RESULT if key != "command"])
def test_whatever_is_missing_is_shown_as_missing(gone: str) -> None:
    page = render_profile({key: value for key, value in RESULT.items() if key != gone})
    assert page.rstrip().endswith("</html>")


def test_bars_are_as_long_as_the_time_and_dark_as_far_as_the_peak_needs() -> None:
    first, second = bars([NODE, IDLE], 30)
    assert (first.length, first.needed) == (1.0, pytest.approx(0.5))
    assert second.length == pytest.approx(1 / 3)
    assert second.needed is None
    fast = {**NODE, "peak_share": 1.8}
    assert bars([fast], 30)[0].needed == 1.0, "no further than the bar"


def test_what_is_not_drawn_is_one_bar() -> None:
    drawn = bars([NODE, *[IDLE] * 9], 4)
    assert len(drawn) == 5
    assert drawn[-1].name == "6 others"
    assert drawn[-1].told == "150.0 %"
