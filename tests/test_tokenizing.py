"""Tokenizers travel in bundles: same tokens, checked by hash, swept when replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import onnxpress
from onnxpress import api, bundle
from onnxpress.bundle import BundledForm, Manifest
from onnxpress.errors import BundleError, InputError, MissingExtra, SamplesError
from onnxpress.processing import Processing
from onnxpress.settings import Settings
from onnxpress.source import open_source
from onnxpress.sources._transformers.text import text_processing
from onnxpress.tokenizing import TextProcessing
from zoo.texts import sentence_model, sentences, tokenizer

NAMES = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def text() -> TextProcessing:
    return text_processing(tokenizer(), NAMES)


def test_json_keeps_all_but_the_place(text: TextProcessing) -> None:
    data = json.loads(json.dumps(Processing(text=text).to_dict()))
    again = Processing.from_dict(data)
    assert again == Processing(text=text)
    assert again.text is not None
    assert str(again.text.file) == text.file.name == f"{text.sha256[:16]}.json"
    assert repr(text) == repr(text.at(Path("elsewhere")))  # it is part of keys


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"extra": 1}, InputError),
        ({"max_length": "9"}, TypeError),
        ({"max_length": 0}, InputError),
        ({"inputs": ["pixels"]}, InputError),
        ({"padding_side": "top"}, InputError),
        ({"pad_token": None}, TypeError),
    ],
)
def test_a_damaged_description(
    change: dict[str, object], error: type[Exception], text: TextProcessing
) -> None:
    with pytest.raises(error):
        TextProcessing.from_dict({**text.to_dict(), **change})


def test_fixed_lengths_and_prefixes(text: TextProcessing) -> None:
    long = replace(text, max_length=5, prefix="the ").open()
    feeds = long.encode(["cat", "cat dog " * 9], 5)
    assert [list(array.shape) for array in feeds.values()] == [[2, 5]] * 3
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1] * 5]
    with pytest.raises(SamplesError, match="5 tokens; expected at most 4"):
        long.encode(["cat dog " * 9], 4)
    assert text.open().encode([""])["input_ids"].tolist() == [[2, 3]]


def test_texts_of_exactly_so_many_tokens(text: TextProcessing) -> None:
    """Their own tokens again and again, or cut, between those that begin and end every text."""
    encoder = text.open()
    (own,) = encoder.tokens(["the cat eats bread"])
    middle = own.ids[1:-1].tolist()
    for length in (3, 6, 11, text.max_length):
        made, nothing = encoder.sized(["the cat eats bread", ""], length)
        assert nothing is None
        assert made is not None
        assert made.ids[0] == own.ids[0]
        assert made.ids[-1] == own.ids[-1]
        expected = (middle * length)[: length - 2]
        assert made.ids[1:-1].tolist() == expected
        assert made.mask.tolist() == [1] * length
        assert len(made.types) == length
    with pytest.raises(InputError, match=f"--length 999; expected at most {text.max_length} "):
        encoder.sized(["the cat"], 999)
    with pytest.raises(InputError, match="--length 2; expected at least 3: 2 tokens begin and end"):
        encoder.sized(["the cat"], 2)


def test_without_the_library(text: TextProcessing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r"onnxpress\[text\]"):
        text.open()


@pytest.fixture
def written(text: TextProcessing, tmp_path: Path) -> tuple[Path, Manifest, Path]:
    """A bundle of an embedding model, its manifest and the model file."""
    model = sentence_model(tmp_path / "base")
    with open_source(model) as origin:
        converted = api.convert(model, exporter="torchscript")
        assert origin.processing is not None
        processing = origin.processing
    path = converted.model.save(tmp_path / "m.onnx")
    form = BundledForm("float", "", "", Settings("onnxruntime"), "float32")
    signature = converted.model.signature
    manifest = Manifest("text_embedding", signature, processing, (form,), "latency", "float")
    return tmp_path / "bundle", bundle.write(tmp_path / "bundle", manifest, {"float": path}), path


def test_a_bundle_embeds_as_the_model_does(
    written: tuple[Path, Manifest, Path], tmp_path: Path
) -> None:
    folder, _, _ = written
    texts = sentences(40, seed=7)
    wanted = sentence_model(tmp_path / "again").encode(texts)
    with onnxpress.open(folder) as predictor:
        found = predictor.predict(texts)
        assert isinstance(found, np.ndarray)
        assert (found.dtype, found.shape) == (np.float32, wanted.shape)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        np.testing.assert_allclose(np.stack(list(predictor.stream(texts))), wanted, atol=1e-5)
        with pytest.raises(SamplesError, match="expected a text"):
            predictor.predict([Path("x.jpg")])


def test_a_changed_or_missing_tokenizer(written: tuple[Path, Manifest, Path]) -> None:
    folder, manifest, _ = written
    assert manifest.processing is not None
    assert manifest.processing.text is not None
    file = manifest.processing.text.file
    assert file.parent == folder
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b" ")
    with pytest.raises(BundleError, match="was changed or cut"):
        onnxpress.open(folder)
    file.unlink()
    with pytest.raises(BundleError, match="is missing"):
        onnxpress.open(folder)


def test_a_name_outside_the_bundle_is_refused(written: tuple[Path, Manifest, Path]) -> None:
    folder, _, _ = written
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    data["processing"]["text"]["file"] = "../secret.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BundleError, match="a hashed name inside the bundle"):
        bundle.read(folder)


def test_replacing_sweeps_the_old_tokenizer(written: tuple[Path, Manifest, Path]) -> None:
    folder, manifest, path = written
    [old] = [p for p in folder.glob("*.json") if p.name != "bundle.json"]
    (folder / "notes.json").write_text("{}")
    bundle.write(folder, replace(manifest, processing=None), {"float": path})
    assert not old.exists()
    assert (folder / "notes.json").exists()
