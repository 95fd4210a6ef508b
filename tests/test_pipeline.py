"""From records to predictions: ours around a session, and a framework's own, give the same."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from onnxpress import api
from onnxpress.pipeline import PREDICTIONS, feeds_of
from onnxpress.runner import Artifact, EndToEnd, OriginRef, open_target
from onnxpress.samples import Record
from onnxpress.settings import Settings
from onnxpress.source import OpenOptions, open_source
from onnxpress.worker import Worker
from zoo.texts import sentence_model, sentences


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> tuple[OriginRef, EndToEnd]:
    """A sentence-transformers folder, by reference, and its ONNX file end to end."""
    folder = tmp_path_factory.mktemp("sentence")
    sentence_model(folder / "parts").save(str(folder / "model"))
    ref, options = f"sentence-transformers:{folder / 'model'}", OpenOptions()
    converted = api.convert(ref, verify=False, exporter="torchscript").model
    path = converted.save(folder / "m.onnx")
    with open_source(ref, options) as origin:
        reference = OriginRef(ref, options, 1, origin.fingerprint())
        processing = origin.processing
    file = Artifact(path, Settings("onnxruntime", threads=1))
    return reference, EndToEnd(file, "text_embedding", converted.signature, processing)


def test_the_library_and_we_embed_alike(sentence: tuple[OriginRef, EndToEnd]) -> None:
    """``encode`` on one side; tokenizer, ONNX Runtime and vectors on the other."""
    reference, file = sentence
    feeds = feeds_of([Record(text) for text in sentences(9, seed=2)])
    with contextlib.ExitStack() as stack:
        own, load_ms = open_target(EndToEnd(reference, "", file.signature, None), stack)
        ours, _ = open_target(file, stack)
        assert load_ms > 0
        expected, found = (each.run(feeds)[PREDICTIONS] for each in (own, ours))
        assert len(found) == len(expected) == 9
        np.testing.assert_allclose(np.stack(found), np.stack(expected), atol=1e-5)
        assert ours.executed()


def test_a_worker_times_records(sentence: tuple[OriginRef, EndToEnd], tmp_path: Path) -> None:
    feeds = feeds_of([Record(text, name="one") for text in sentences(3)])
    with Worker.open(sentence[1], 60) as worker:
        assert len(worker.time(feeds, 0, 3)) >= 3
        (vector, *_) = worker.run(feeds)[PREDICTIONS]
        assert vector.dtype == np.float32


def test_records_of_arrays_stay_records() -> None:
    """NumPy would make one array of them."""
    feeds = feeds_of([Record(np.zeros((2, 2))), Record(np.ones((2, 2)))])
    (array,) = feeds.values()
    assert (array.shape, array.dtype) == ((2,), object)
    assert isinstance(array[1], Record)
