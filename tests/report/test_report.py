"""The report says what the dict says, in one page that fetches nothing and runs one script."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import math
import random
import re
import sys
from pathlib import Path

import pytest

from onnxpress.errors import InputError, MissingExtra
from onnxpress.report import pareto, render_html, render_markdown, write
from onnxpress.report.axes import latency_axis, quality_axis
from onnxpress.report.format import MISSING, quality, significant, size, speedup, text
from onnxpress.report.html import NARROW, WIDE, _template, pictures
from onnxpress.report.labels import Box, Wish, place
from onnxpress.report.quantization import quantization
from onnxpress.report.rows import read_rows
from zoo.reports import (
    RESULTS,
    bench,
    crowd,
    nothing_won,
    resnet18,
)

VOID = {"meta", "br", "link", "img", "input", "hr"}
every = pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)


class Page(html.parser.HTMLParser):
    """Collects tags and the text of the first table's cells; fails where tags do not balance."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag == "small":
            self.rows[-1][-1] += " "

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data.strip()


@every
def test_page_is_whole_and_self_contained(make):
    page = render_html(make())
    parsed = Page(page)
    assert not parsed.tags & {"link", "img", "iframe", "object", "embed", "base", "form"}
    assert not parsed.attributes & {"src", "href", "onclick", "onload", "style"}
    assert not re.search(r"https?://|src=|@import|url\(", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert page.count("<script") == 1
    assert page.isprintable() or not re.search(r"[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", page)


@every
def test_markdown_table_holds_every_row(make):
    result = make()
    lines = render_markdown(result).splitlines()
    listed = lines[lines.index("## Every form, fastest first") :]
    table = [line for line in listed if re.match(r"\| \d+ \|", line)]
    rows = read_rows(result).rows
    assert len(table) == len(rows)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 15 for line in table)
    outside = re.sub(r"^(`{3,}).*?^\1$", "", "\n".join(lines), flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside and "INPUT" not in outside


@pytest.mark.parametrize("make", [resnet18, crowd, nothing_won])
def test_numbers_agree_everywhere(make, tmp_path):
    result = make()
    page, _, data = write(result, tmp_path)
    assert json.loads(data.read_text()) == result
    cells = {row[0].strip(): row for row in Page(page.read_text()).rows if row and row[0].isdigit()}
    table = {
        line.split(" | ")[0].strip("| "): re.split(r"(?<!\\) \| ", line.strip("| "))
        for line in render_markdown(result).splitlines()
        if re.match(r"\| \d+ \|", line)
    }
    raws = {each["name"]: each for each in [result["baseline"], *result["candidates"]]}
    for row in read_rows(result).rows:
        raw, there, here = raws[row.name], cells[str(row.number)], table[str(row.number)]
        assert row.name in there[1] and row.name.split("-")[0] in here[1]
        if raw["latency_ms"] is None:
            assert there[2] == MISSING == here[3]
            continue
        for cell in (there[2], here[3]):
            assert shown(cell) == pytest.approx(raw["latency_ms"]["p50"], rel=5e-3)
        for cell in (there[7], here[10]):
            assert shown(cell) == pytest.approx(raw["throughput_per_s"], rel=5e-3)
        for cell in (there[6], here[9]):
            assert shown(cell) * 1e6 == pytest.approx(raw["size_bytes"], rel=5e-3)
        if raw.get("speedup"):
            for cell in (there[4], here[7]):
                assert shown(cell) == pytest.approx(raw["speedup"]["value"], rel=2e-2)
        if raw["quality"]:
            for cell in (there[5], here[8]):
                assert shown(cell) == pytest.approx(raw["quality"]["value"], abs=5e-4)


def shown(cell: str) -> float:
    found = re.match(r"[\d,.]+", cell)
    assert found, cell
    return float(found[0].replace(",", ""))


def test_speedup_comes_with_interval_baseline_and_quality():
    for page in (render_html(resnet18()), render_markdown(resnet18())):
        plain = page.replace("\\", "")
        assert "5.2–5.5 against PyTorch eager" in plain
        assert "at least 0.993, the lower end of the 95 % interval" in plain
        assert "n = 500" in plain and "AMX_INT8" in plain and "11.9\u00a0MB" in plain


def test_failed_and_tied_are_said():
    page = render_html(resnet18())
    for word in ("below floor", "not measured", "tie", "chosen", "baseline", "ConvInteger"):
        assert word in page
    drawn = {mark.row.name for mark in pictures(read_rows(resnet18()))[0].marks}
    assert "ort-dynamic-int8" not in drawn and len(drawn) == 10


def test_nothing_won_says_so():
    page = render_html(nothing_won())
    assert "the original stays" in page and "Fastest that holds the floor" in page
    assert "--keep-float" in page and "onnxpress run" not in page


def test_every_null_survives():
    """Each value of the dict in turn is null, and each mapping a text."""
    for path in paths(resnet18()):
        for instead in (None, "odd"):
            result = resnet18()
            place: object = result
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = instead
            render_html(result)
            render_markdown(result)


def paths(value: object, before: tuple = ()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:1])
    found = []
    for key, each in items:
        found.append((*before, key))
        if isinstance(each, dict | list) and each:
            found += paths(each, (*before, key))
    return found


def test_not_a_number_is_missing(tmp_path):
    result = resnet18()
    result["candidates"][0]["latency_ms"]["p50"] = math.nan
    result["candidates"][1]["throughput_per_s"] = math.inf
    data = json.loads(write(result, tmp_path)[2].read_text())
    assert data["candidates"][0]["latency_ms"]["p50"] is None
    assert not re.search(r"\b(nan|inf)\b", render_html(result) + render_markdown(result))


def test_frontier_is_the_non_dominated():
    draw = random.Random(0)
    row = read_rows(resnet18()).rows[0]
    for _ in range(100):
        cloud = [
            pareto.Point(row, draw.randint(1, 9), draw.randint(1, 9))
            for _ in range(draw.randint(1, 20))
        ]
        best = [
            (p.latency_ms, p.quality)
            for p in cloud
            if not any(
                q.latency_ms <= p.latency_ms
                and q.quality >= p.quality
                and (q.latency_ms, q.quality) != (p.latency_ms, p.quality)
                for q in cloud
            )
        ]
        assert [(p.latency_ms, p.quality) for p in pareto.frontier(cloud)] == sorted(best)


def test_markdown_lists_the_frontier():
    listed = render_markdown(resnet18()).split("## The Pareto frontier")[1].split("##")[0]
    assert re.findall(r"^- #(\d+)", listed, re.MULTILINE) == ["1", "2", "6"]


@every
def test_labels_do_not_overlap(make):
    for picture in pictures(read_rows(make())):
        labels = [mark.label for mark in picture.marks]
        boxes = [label.box for label in labels if label]
        assert len(boxes) >= 0.9 * len(labels)
        for index, box in enumerate(boxes):
            assert box.within(picture.plot)
            assert not any(box.meets(other) for other in boxes[index + 1 :])
            assert not box.meets(picture.floor_box)
            for mark in picture.marks:
                r = mark.radius * 0.9
                assert not box.meets(Box(mark.x - r, mark.y - r, mark.x + r, mark.y + r))
        for mark in picture.marks:
            assert picture.plot.x0 <= mark.x <= picture.plot.x1
            assert picture.plot.y0 <= mark.y <= picture.plot.y1


def test_a_label_with_no_room_is_left_out():
    wish = Wish(5, 5, 4, ("a long name", "7"))
    assert place([wish], Box(0, 0, 10, 10), 12) == [None]


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [1e-6, 1e5], [4.99, 5.0], [1, 5.1]])
def test_latency_axis_has_room_and_ticks(values):
    axis = latency_axis(values, 50, 900)
    pixels = [axis.pixel(value) for value in values]
    assert all(50 < pixel < 900 for pixel in pixels) and pixels == sorted(pixels)
    assert 2 <= len(axis.ticks) <= 12 and all(50 <= at <= 900 for at, _ in axis.ticks)
    assert axis.is_log == (max(values) > 5 * min(values))


@pytest.mark.parametrize("floor", [None, 0.0, 0.5, 0.99, 1.0, 1.2])
@pytest.mark.parametrize("values", [[1.0], [0.0, 1.0], [-0.3, 0.9], [0.9999, 1.0], [1.3, 0.995]])
def test_quality_axis_is_monotone_and_in_the_plot(values, floor):
    axis = quality_axis(values, values, floor, 30, 470)
    ordered = sorted(set(values) | ({floor} - {None}))
    pixels = [axis.pixel(value) for value in ordered]
    assert pixels == sorted(pixels, reverse=True)
    assert all(30 < pixel < 470 for pixel in pixels) and axis.ticks


def test_numbers_to_text():
    assert [
        significant(v) for v in (0.04521, 4.517, 9.996, 24.1, 1523, 0, None, math.nan, True)
    ] == [*("0.0452", "4.52", "10.0", "24.1", "1,523", "0", MISSING, MISSING, MISSING)]
    assert [size(v) for v in (0, 999, 999_999, 11_940_000, 3e12)] == [
        *("0\u00a0B", "999\u00a0B", "1.00\u00a0MB", "11.9\u00a0MB", "3.00\u00a0TB")
    ]
    assert quality(0.98996, 0.99) == "0.98996" and quality(0.99996) == "0.99996"
    assert speedup(5.31, 5.12, 5.44) == ("5.3×", "5.1–5.4")
    assert speedup(1.012, 1.003, 1.02) == ("1.012×", "1.003–1.020")
    assert speedup(None, 1, 2) == (MISSING, "")
    assert text("a\nb\x1b\u202ec") == "a b\\x1b\\u202ec"


def test_write_is_atomic(tmp_path, monkeypatch):
    made = write(resnet18(), tmp_path / "new" / "folder", "résumé")
    assert [path.name for path in made] == ["résumé.html", "résumé.md", "résumé.json"]
    before = {path: path.read_bytes() for path in made}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InputError, match="No space left"):
        write(crowd(), made[0].parent, "résumé")
    assert {path: path.read_bytes() for path in made[0].parent.iterdir()} == before


def test_write_refuses_a_folder_in_the_name_and_a_file_as_folder(tmp_path):
    with pytest.raises(InputError, match="without a folder"):
        write(resnet18(), tmp_path, "../report")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can be written"):
        write(resnet18(), tmp_path / "file")


def test_missing_jinja2_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("onnxpress.report.html._template", _template.__wrapped__)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"onnxpress\[press\]"):
        write(resnet18(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_picture_sizes_fit_their_screens():
    wide, narrow = pictures(read_rows(resnet18()))
    assert (wide.width, wide.height) == WIDE and (narrow.width, narrow.height) == NARROW


def test_bench_is_understood():
    rows = read_rows(bench(1))
    assert rows.baseline.name == "PyTorch eager" and rows.rows[-1].marks == ("not measured",)
    page = render_html(bench(1))
    assert "slower" in page and "How to use" not in page and '<svg class="pareto"' in page
    sweep = render_html(bench(1, 8))
    assert "Quality against latency" not in sweep and "Where one overtakes another" in sweep
    assert "batch 8" in sweep and "at the same batch" in sweep
    assert [row.details[-7:] for row in read_rows(bench(1, 8)).rows[:10:5]] == [
        "batch 1",
        "batch 8",
    ]


def test_too_few_rounds_prove_nothing():
    assert speedup(2.0, 0.0, math.inf) == ("2.00×", "0–∞")


def test_mismatch_is_told():
    result = resnet18()
    result["conversion"]["verified"] |= {
        "ok": False,
        "first_mismatch": {
            "output": "y",
            "index": (0, 3),
            "a": 1.5,
            "b": 2.5,
            "shapes": {"x": (1, 3)},
            "why": "",
        },
    }
    assert "output y at 0, 3: 1.5 against 2.5 on x 1×3" in render_html(result)
    assert "differs from the origin" in render_markdown(result)


class TestQuantization:
    def test_the_page_shows_sizes_layers_and_histograms(self) -> None:
        page = render_html(resnet18())
        assert "What int8 did: openvino-int8" in page
        assert "/layer4/1/conv2/Conv" in page
        assert "2.13 %" in page
        assert "&lt; 0.001 %" in page
        assert "seen 0 to 31.25, represented 0 to 4.5" in page
        found = quantization(resnet18(), read_rows(resnet18()))
        assert found is not None
        assert [bar.share for bar in found.layers] == sorted(
            (bar.share for bar in found.layers), reverse=True
        )
        assert found.layers[0].share == 1
        assert {bar.name for bar in found.sizes if bar.strong} == {"openvino-int8"}
        (histogram,) = found.histograms
        assert (histogram.from_share, histogram.to_share) == (0, 4.5 / 31.25)
        assert [height for _, height in histogram.columns][3] == 0
        assert max(height for _, height in histogram.columns) == 1

    def test_markdown_tells_the_same(self) -> None:
        told = render_markdown(resnet18())
        assert "## What int8 did" in told
        assert "| /layer4/1/conv2/Conv | 2.13 % |" in told

    @pytest.mark.parametrize(
        "raw",
        [
            {},
            {"form": None, "layers": 7, "tensors": "x"},
            {"layers": [{}, 3, {"node": "a", "error": "much"}, {"node": "b", "error": -1}]},
            {"tensors": [{}, {"tensor": "t", "counts": [1], "low": None}]},
            {"tensors": [{"tensor": "t", "counts": [0], "low": 1, "high": 1, "seen_low": 1,
                          "seen_high": 1, "error": 0}]},
        ],
    )  # fmt: skip
    def test_what_is_missing_or_odd_is_left_out(self, raw: object) -> None:
        result = {**resnet18(), "quantization": raw}
        Page(render_html(result))
        render_markdown(result)

    def test_nothing_is_said_where_nothing_was_quantised(self) -> None:
        assert "What int8 did" not in render_html({**resnet18(), "quantization": None})
        assert "What int8 did" not in render_markdown({**resnet18(), "quantization": None})
