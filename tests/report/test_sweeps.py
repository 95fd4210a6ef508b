"""A sweep is drawn and told: who is faster at which size, and what was not timed."""

from __future__ import annotations

import itertools
import re

import pytest

from onnxpress.errors import InputError
from onnxpress.report import check_suffix, render_html, render_markdown
from onnxpress.report.axes import log_axis
from onnxpress.report.curves import NARROW, WIDE, figures, names
from onnxpress.report.format import significant
from onnxpress.report.rows import read_rows
from zoo.reports import Json, bench, lengths


def everything() -> list[Json]:
    return [bench(1, 8), bench(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000), lengths()]


def test_one_figure_for_each_axis_and_the_ends_of_the_other() -> None:
    assert [each.title for each in figures(read_rows(bench(1, 8)))] == ["Against batch"]
    assert figures(read_rows(bench(8))) == ()
    assert [each.title for each in figures(read_rows(lengths()))] == [
        "Against batch, 16 tokens each",
        "Against batch, 256 tokens each",
        "Against length, batch 1",
        "Against length, batch 32",
    ]
    assert [each.title for each in figures(read_rows(lengths([8])))] == ["Against length"]


@pytest.mark.parametrize("result", everything())
def test_everything_lies_in_its_chart(result: Json) -> None:
    """Lines go through the sizes in order; ticks of sizes do not touch each other."""
    rows = read_rows(result)
    for figure in figures(rows):
        for charts, (width, height) in ((figure.wide, WIDE), (figure.narrow, NARROW)):
            latency, rate = charts
            assert {curve.name for curve in latency.curves} == names(rows).keys()
            for chart in charts:
                plot = chart.plot
                assert (chart.width, chart.height) == (width, height)
                assert plot.x0 > 0 < plot.y0
                xs = [x for x, _ in chart.x_ticks]
                assert all(b - a >= 26 for a, b in itertools.pairwise(xs))
                assert len(chart.y_ticks) >= 2
                for curve in chart.curves:
                    points = re.findall(r"(-?[\d.]+) (-?[\d.]+)", curve.path)
                    at = [(float(x), float(y)) for x, y in points]
                    assert at == sorted(at)
                    assert len(at) == len(curve.marks) == len(curve.whiskers)
                    assert all(plot.x0 < x < plot.x1 and plot.y0 < y < plot.y1 for x, y in at)
            # The higher the latency the lower the rate, whatever the candidate.
            first = {c.name: float(re.findall(r"[\d.]+", c.path)[1]) for c in latency.curves}
            speed = {c.name: float(re.findall(r"[\d.]+", c.path)[1]) for c in rate.curves}
            assert sorted(first, key=first.__getitem__) == sorted(
                speed, key=speed.__getitem__, reverse=True
            )


def test_the_baseline_is_drawn_as_such_and_hues_repeat_dashed() -> None:
    result = bench(1, 8)
    result["rows"] += [
        {**row, "name": f"{row['name']} again"} for row in result["rows"] if row["name"] != "x"
    ]
    (figure,) = figures(read_rows(result))
    dashed = {curve.name: curve.is_dashed for curve in figure.wide[0].curves}
    hues = names(read_rows(result))
    assert hues["PyTorch eager"] == -1
    assert sorted(hues.values()) == list(range(-1, len(hues) - 1))
    assert dashed == {name: hue >= 4 for name, hue in hues.items()}


def test_html_and_markdown_tell_the_same() -> None:
    result = lengths()
    page, text = render_html(result), render_markdown(result)
    for told in (page, text.replace("\\", "")):
        assert result["verdict"] in told
        assert result["crossovers"][0]["text"] in told
        assert "it has no kernel" in told
        assert "0.031" in told
    assert page.index(result["verdict"]) < page.index("Where one overtakes") < page.index("<table")
    assert page.count('<svg class="chart"') == 4 * 2 * 2
    row = next(each for each in result["rows"] if (each["batch"], each["length"]) == (32, 256))
    (line,) = [line for line in text.splitlines() if line.startswith("| 32 | 256 |")]
    assert line.count("/s)") == len(names(read_rows(result)))
    assert f"({significant(row['throughput_per_s'])}/s)" in line


def test_a_sweep_without_crossovers_says_so() -> None:
    assert "not slower at any other" in render_html({**lengths(), "crossovers": []})


@pytest.mark.parametrize("values", [[5.0], [3.0, 3.0], [0.01, 1e4], [1.0, 1000.0]])
def test_a_logarithmic_axis_goes_either_way(values: list[float]) -> None:
    right, up = log_axis(values, 50, 400), log_axis(values, 300, 30)
    for value in values:
        assert 50 < right.pixel(value) < 400
        assert 30 < up.pixel(value) < 300
        assert (right.pixel(value) - 50) / 350 == pytest.approx(
            (300 - up.pixel(value)) / 270, abs=0.05
        )
    assert 2 <= len(right.ticks) <= 12
    assert all(50 <= at <= 400 for at, _ in right.ticks)


def test_the_name_of_the_file_decides_its_format(tmp_path) -> None:
    check_suffix(tmp_path / "a.HTML")
    check_suffix(tmp_path / "a.md")
    with pytest.raises(InputError, match=r"a.pdf; expected a file that ends in .html or .md"):
        check_suffix(tmp_path / "a.pdf")


def test_a_bench_tells_nothing_of_floors_and_files_that_it_has_not() -> None:
    for page in (render_html(bench(8)), render_markdown(bench(8))):
        assert not re.search("floor must hold|>Floor<|beside this file|>Objective<", page)
        assert "**Floor:**" not in page
        assert "Rounds" in page
