"""Every source opens what it accepts, answers as a session, and comes back from ONNX the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from onnxpress import registry
from onnxpress.engine import Session
from onnxpress.errors import InputError, OnnxpressError, SamplesError
from onnxpress.model import load
from onnxpress.signature import Feeds
from onnxpress.source import ExportOptions, OpenOptions, Origin, Source, open_source
from onnxpress.verbs.convert import BATCHES, convert
from onnxpress.verbs.feeds import random_feeds
from zoo import tensorflow_files

FACTORY = "import zoo\n\ndef make():\n    return zoo.module('mlp')\n"
NAMES = registry.names("sources")
TREES = ("lightgbm", "sklearn", "xgboost")


def trees(name: str, folder: Path) -> str:
    """A tiny trained classifier, saved as its library does."""
    from zoo import tabular

    return str(tabular.save(name, folder))


@pytest.fixture(params=NAMES)
def ref(
    request: pytest.FixtureRequest,
    zoo_model: Callable[[str], Path],
    texts: Callable[[str], str],
    tmp_path: Path,
) -> str:
    """The zoo's ``mlp`` as this source reads it; a new source adds its own here."""
    (tmp_path / "factory.py").write_text(FACTORY, encoding="utf-8")
    refs = {
        "keras": lambda: str(tensorflow_files.keras_file(tmp_path)),
        "onnx": lambda: str(zoo_model("mlp")),
        "tensorflow": lambda: str(tensorflow_files.saved_model(tmp_path)),
        "torch": lambda: f"{tmp_path / 'factory.py'}:make",
        "transformers": lambda: texts("classifier"),
        "sentence_transformers": lambda: texts("sentences"),
        **{kind: functools.partial(trees, kind, tmp_path) for kind in TREES},
    }
    assert request.param in refs, "how does the zoo look to this source?"
    return refs[request.param]()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folders of small models of texts, made once."""
    from zoo import texts as zoo

    @functools.cache
    def made(kind: str) -> str:
        folder = tmp_path_factory.mktemp(kind)
        if kind == "sentences":
            model = zoo.sentence_model(folder / "base")
            model.save(str(folder / "model"))
            return str(folder / "model")
        model = zoo.transformers().BertForSequenceClassification(zoo.bert_config())
        return str(zoo.saved(model, folder, zoo.tokenizer()))

    return made


@pytest.fixture
def origin(ref: str) -> Origin:
    return open_source(ref)


def batch(origin: Origin, session: Session, rows: int, seed: int) -> Feeds:
    return random_feeds(session.signature, rows, seed, origin.example, drawn=origin.drawn)


def test_one_source_accepts_it_and_its_prefix_opens_it_too(ref: str) -> None:
    accepted = [name for name in NAMES if registry.create(Source, "sources", name).accepts(ref)]
    assert len(accepted) == 1
    with open_source(ref) as plain, open_source(f"{accepted[0]}:{ref}") as prefixed:
        assert plain.kind == prefixed.kind == accepted[0]
        assert plain.baseline == prefixed.baseline != ""
        assert plain.fingerprint() == prefixed.fingerprint()


def test_it_comes_back_from_onnx_the_same(origin: Origin, tmp_path: Path) -> None:
    with origin:
        result = convert(origin)
    assert result.verified is not None
    assert result.verified.ok
    rows = [next(iter(case.shapes.values()))[0] for case in result.verified.cases]
    assert rows[: len(BATCHES)] == list(BATCHES)
    saved = load(result.model.save(tmp_path / "m.onnx"))
    assert saved.signature == result.model.signature
    with open_source(tmp_path / "m.onnx") as again:
        assert convert(again).verified == convert(again).verified


def test_the_session_takes_the_exported_models_feeds(origin: Origin) -> None:
    exported = origin.export(ExportOptions()).model.signature
    with origin.session() as session:
        for side in ("inputs", "outputs"):
            mine, theirs = getattr(session.signature, side), getattr(exported, side)
            assert [(s.name, s.dtype) for s in mine] == [(s.name, s.dtype) for s in theirs]
        with pytest.raises(SamplesError, match="lack input"):
            session.run({})
        feeds = batch(origin, session, 2, 0)
        kept = {name: array.copy() for name, array in feeds.items()}
        for array in feeds.values():
            array.flags.writeable = False
        first = session.run(feeds)
        before = {name: array.copy() for name, array in first.items()}
        session.run(batch(origin, session, 2, 1))
        for name, array in first.items():
            np.testing.assert_array_equal(array, before[name])
            np.add(array, 1, out=array)  # the caller owns it
        for name, array in feeds.items():
            np.testing.assert_array_equal(array, kept[name])


def test_sessions_answer_from_eight_threads(origin: Origin) -> None:
    with origin.session(threads=1) as session:
        many = [batch(origin, session, 1 + seed % 3, seed) for seed in range(24)]
        alone = [session.run(feeds) for feeds in many]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(session.run, many))
    for one, two in zip(alone, together, strict=True):
        for name, array in one.items():
            np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-6)


def test_the_fingerprint_is_stable(ref: str) -> None:
    with open_source(ref) as first, open_source(ref) as second:
        assert first.fingerprint() == second.fingerprint() != ""
        first.export(ExportOptions())
        first.session().close()
        assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", ["", "no/such/file", "no such file.py:make", "nothing.onnx"])
def test_what_is_not_there_is_one_line(name: str, wrong: str) -> None:
    with pytest.raises(OnnxpressError) as caught:
        registry.create(Source, "sources", name).open(wrong, OpenOptions())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["", "model.unknown", 3, None, object()])
def test_a_reference_that_nothing_reads(wrong: object) -> None:
    with pytest.raises(InputError, match=r"no source reads .*KIND one of"):
        open_source(wrong)


def test_an_empty_file_is_called_empty_and_kinds_are_as_typed(tmp_path: Path) -> None:
    for suffix in ("txt", "json"):
        empty = tmp_path / f"m.{suffix}"
        empty.touch()
        with pytest.raises(InputError, match=f"^{empty} is empty; expected a file"):
            open_source(str(empty))
    for wrong in ("nothing:m", str(tmp_path)):
        with pytest.raises(InputError, match=r"one of .*sentence-transformers") as caught:
            open_source(wrong)
        assert "sentence_transformers" not in str(caught.value)
