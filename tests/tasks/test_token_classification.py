"""Spans of words with a label: from tokens of any padding, scored without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxpress import api
from onnxpress.errors import InputError
from onnxpress.predictor import open as open_bundle
from onnxpress.pressing.result import Pressed
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.sources._transformers.text import text_processing
from onnxpress.task import Bound, Scored, choose
from onnxpress.tasks.token_classification import TokenClassification
from zoo.texts import NOUNS, SPECIAL, WORDS, bert_config, saved, sentences, tokenizer, transformers

IDS = ("input_ids", "attention_mask")
LABELS = ("O", "B-NOUN", "I-NOUN", "MAP")
SIGNATURE = Signature(
    tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in IDS),
    (TensorSpec("logits", "float32", ("batch", "sequence", len(LABELS))),),
)


def bound(side: str = "right") -> Bound:
    text = text_processing(tokenizer(side), IDS)
    return TokenClassification().bind(SIGNATURE, Processing(labels=LABELS, text=text))


def logits(ids: np.ndarray, wanted: dict[str, int]) -> np.ndarray:
    """10 for the label of each word of ``wanted``, and for O elsewhere."""
    table = np.zeros((len(SPECIAL) + len(WORDS), len(LABELS)), np.float32)
    table[:, 0] = 5
    for word, label in wanted.items():
        table[len(SPECIAL) + WORDS.index(word)] = 10 * np.eye(len(LABELS))[label]
    return table[ids]


@pytest.mark.parametrize("side", ["left", "right"])
def test_tokens_become_spans_of_the_text(side: str) -> None:
    records = [Record("The small cat eats maps."), Record("Robot near the doctor dog song")]
    feeds = bound(side).encode(records)
    wanted = {"small": 1, "cat": 2, "map": 3, "robot": 1, "doctor": 1, "dog": 1, "song": 2}
    outputs = {"logits": logits(feeds["input_ids"], wanted)}
    found = bound(side).decode(outputs, records)
    spans = [
        [(e["label"], e["text"], e["start"], e["end"]) for e in row["entities"]]  # type: ignore[attr-defined]
        for row in found
    ]
    assert spans == [
        [("NOUN", "small cat", 4, 13), ("MAP", "maps", 19, 23)],
        [("NOUN", "Robot", 0, 5), ("NOUN", "doctor", 15, 21), ("NOUN", "dog song", 22, 30)],
    ]
    assert 0.99 < found[0]["entities"][0]["score"] < 1  # type: ignore[index]


def test_padding_is_not_scored() -> None:
    records = [Record("cat"), Record("the small cat eats a red apple")]
    feeds = bound().encode(records)
    theirs = logits(feeds["input_ids"], {"cat": 1})
    mine = theirs.copy()
    mine[0, 4:] = np.roll(mine[0, 4:], 1, axis=-1)  # padding alone
    kept = [bound().condensed({"logits": array}, feeds) for array in (mine, theirs)]
    assert bound().score([Scored(kept[0], kept[1], [None, None])]).value == 1
    mine[0, 1] = np.roll(mine[0, 1], 1)  # one of three real tokens of the first text
    kept[0] = bound().condensed({"logits": mine}, feeds)
    quality = bound().score([Scored(kept[0], kept[1], [None, None])])
    assert quality.value == pytest.approx((2 / 3 + 1) / 2)
    assert "(12 tokens)" in quality.metric


def test_one_label_for_everything_proves_nothing() -> None:
    same = {"logits": logits(np.full((40, 5), 7), {})}
    quality = bound().score([Scored(same, same, [None] * 40)])
    assert quality.low == 0
    assert "proves nothing: the origin says O" in quality.metric


def test_the_task_follows_from_the_output() -> None:
    assert choose(SIGNATURE, "texts") == "token_classification"
    processing = Processing(labels=("a", "b"), text=text_processing(tokenizer(), IDS))
    with pytest.raises(InputError, match="2 label names"):
        TokenClassification().bind(SIGNATURE, processing)


@pytest.mark.usefixtures("one_engine", "in_process")
def test_a_model_of_the_library_is_pressed(tmp_path: Path) -> None:
    """Trained to find the nouns, on made-up sentences."""
    import torch

    torch.manual_seed(0)
    labels = {0: "O", 1: "B-NOUN"}
    model = transformers().BertForTokenClassification(bert_config(id2label=labels, num_labels=2))
    texts, token = sentences(200), tokenizer()
    nouns = torch.tensor([len(SPECIAL) + WORDS.index(word) for word in NOUNS])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(15):
        batch = token(texts, padding=True, return_tensors="pt")
        optimizer.zero_grad()
        model(**batch, labels=torch.isin(batch["input_ids"], nouns).long()).loss.backward()
        optimizer.step()
    folder = saved(model.eval(), tmp_path / "model", token)
    pressed = api.press(
        f"transformers:{folder}",
        samples=[Record(text) for text in sentences(120, seed=1)],
        floor=0.9,
        rounds=6,
        output=tmp_path / "bundle",
        keep_float=True,
    )
    assert isinstance(pressed, Pressed)
    assert pressed.task == "token_classification"
    with open_bundle(tmp_path / "bundle") as predictor:
        [row] = predictor.predict(["The doctor finds a small dog"])
    assert [(e["label"], e["text"]) for e in row["entities"]] == [
        ("NOUN", "doctor"),
        ("NOUN", "dog"),
    ]
