"""Predictions come in order, a batch at a time, and become JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import onnxpress
from onnxpress.errors import BundleError, EngineError, SamplesError
from onnxpress.predictor import Predictor, foreign_options, plain, records_of, write_lines
from onnxpress.settings import Settings
from zoo.bundles import write_bundle


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Predictor]:
    with onnxpress.open(write_bundle(tmp_path / "b")) as predictor:
        yield predictor


def rows(count: int) -> list[np.ndarray]:
    return [np.full(3, value, np.float32) for value in range(count)]


def test_a_stream_keeps_order_and_reads_one_batch_ahead_at_most(opened: Predictor) -> None:
    read = []

    def source() -> Iterator[np.ndarray]:
        for row in rows(50):
            read.append(row)
            yield row

    stream = opened.stream(source(), rows=4)
    assert read == []
    values = [float(next(stream)["y"][0])]  # type: ignore[index]  # a mapping
    assert len(read) == 4
    values += [float(row["y"][0]) for row in stream]  # type: ignore[index]  # a mapping
    assert values == [max(value - 1.0, 0.0) for value in range(50)]


def test_no_input_gives_no_prediction(opened: Predictor) -> None:
    assert opened.predict([]) == []


def test_an_input_that_does_not_fit_is_named(opened: Predictor) -> None:
    with pytest.raises(SamplesError, match="x"):
        opened.predict([np.zeros(4, np.float32)])
    with pytest.raises(SamplesError, match="got float64"):
        opened.run({"x": np.zeros((1, 3))})


def test_predictions_are_plain_json() -> None:
    value = {
        "array": np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32),
        "whole": np.arange(3),
        "half": np.array([0.5], ml_dtypes.bfloat16),
        "nested": [{"scalar": np.float32(2), "odd": float("nan")}, ("text", None, True)],
        7: np.int64(3),
    }
    text = json.dumps(plain(value), allow_nan=False)
    assert json.loads(text) == {
        "array": [[1.5, None], [None, None]],
        "whole": [0, 1, 2],
        "half": [0.5],
        "nested": [{"scalar": 2.0, "odd": None}, ["text", None, True]],
        "7": 3,
    }


def test_lines_are_written_whole_or_not_at_all(tmp_path: Path, opened: Predictor) -> None:
    path = tmp_path / "out.jsonl"
    assert write_lines(path, ["a", "b"], opened.stream(rows(2))) == 2
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"name": "a", "output": {"y": [0.0, 0.0, 0.0]}},
        {"name": "b", "output": {"y": [0.0, 0.0, 0.0]}},
    ]
    before = path.read_text()
    with pytest.raises(SamplesError):
        write_lines(path, "abc", opened.stream([*rows(2), np.zeros(9, np.float32)], rows=1))
    assert path.read_text() == before
    assert not list(tmp_path.glob(".out*"))


def test_where_lines_cannot_go_is_said_first(tmp_path: Path) -> None:
    def never() -> Iterator[object]:
        raise AssertionError
        yield

    with pytest.raises(SamplesError, match="is a folder; expected a file to write"):
        write_lines(tmp_path, ["a"], never())
    with pytest.raises(SamplesError, match="expected an existing folder"):
        write_lines(tmp_path / "none" / "out.jsonl", ["a"], never())


def test_records_of_an_argument(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3), np.float32))
    (tmp_path / "a.png").touch()
    assert len(records_of(str(tmp_path / "x.npz"))) == 4
    assert [record.name for record in records_of(str(tmp_path / "a.png"))] == ["a.png"]
    with pytest.raises(SamplesError, match=r"none\.png does not exist"):
        records_of(str(tmp_path / "none.png"))


def test_a_bundle_cannot_make_an_engine_write_files(tmp_path: Path) -> None:
    """Options that name files or libraries are refused: a bundle is data."""
    folder = write_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / "bundle.json").read_text())
    for form in manifest["forms"]:
        form["settings"]["options"] = {"optimized_model_filepath": str(tmp_path / "written")}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="a bundle may not set the option optimized_model_file"):
        onnxpress.open(folder)
    assert not (tmp_path / "written").exists()


def test_a_bundle_cannot_make_a_provider_load_a_library_or_write_files(tmp_path: Path) -> None:
    library = {"backend_path": str(tmp_path / "evil.so"), "vtcm_mb": "8"}
    settings = Settings("onnxruntime", "QNNExecutionProvider", provider_options=library)
    assert foreign_options(settings) == ["backend_path"]
    dumps = {"dump_json_qnn_graph": "1", "htp_arch": "73"}
    settings = Settings("onnxruntime", "QNNExecutionProvider", provider_options=dumps)
    assert foreign_options(settings) == ["dump_json_qnn_graph"]
    unknown = Settings("onnxruntime", "VitisAIExecutionProvider", provider_options={"x": "1"})
    assert foreign_options(unknown) == ["x"]
    safe = Settings("onnxruntime", options={"execution_mode": "parallel"})
    assert foreign_options(safe) == []


def test_wishes_go_over_the_form(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    with onnxpress.open(folder, session=("execution_mode=parallel",)) as predictor:
        assert predictor.fallbacks == ()
    with onnxpress.open(folder, provider="azure") as predictor:
        assert predictor.fallbacks, "it takes no node, so the CPU runs them all"
    with pytest.raises(BundleError, match="it runs on onnxruntime"):
        onnxpress.open(folder, engine="openvino")
    with pytest.raises(EngineError, match="no session option 'speed'"):
        onnxpress.open(folder, session={"speed": "high"})


def test_a_bundle_cannot_start_thousands_of_threads(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / "bundle.json").read_text())
    for change in ({"threads": 3000}, {"options": {"intra_op_num_threads": "3000"}}):
        for form in manifest["forms"]:
            form["settings"] |= {"threads": 1, "options": {}} | change
        (folder / "bundle.json").write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match="3000; expected at most"):
            onnxpress.open(folder)
