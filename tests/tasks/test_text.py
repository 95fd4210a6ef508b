"""Embeddings and classes of texts: what is scored, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.sources._transformers.text import text_processing
from onnxpress.task import Scored, choose
from onnxpress.tasks.text_classification import TextClassification
from onnxpress.tasks.text_embedding import TextEmbedding
from zoo.texts import tokenizer

IDS = ("input_ids", "attention_mask")
OUTPUT = "sentence_embedding"


def signature(output: str = OUTPUT, length: int | str = "sequence", size: int = 6) -> Signature:
    inputs = tuple(TensorSpec(name, "int64", ("batch", length)) for name in IDS)
    return Signature(inputs, (TensorSpec(output, "float32", ("batch", size)),))


@pytest.fixture(scope="module")
def processing() -> Processing:
    return Processing(labels=("no", "yes"), text=text_processing(tokenizer(), IDS))


def scored(mine: np.ndarray, theirs: np.ndarray) -> Scored:
    return Scored({OUTPUT: mine}, {OUTPUT: theirs}, [None] * len(theirs))


@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
def test_the_score_is_spearmans(noise: float, processing: Processing) -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(60, 6)).astype(np.float32)
    mine = theirs + noise * rng.normal(size=theirs.shape).astype(np.float32)
    quality = TextEmbedding().bind(signature(), processing).score([scored(mine, theirs)])

    def cosines(rows: np.ndarray) -> np.ndarray:
        unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1)[:, None]
        return (unit @ unit.T)[np.triu_indices(60, 1)]

    expected = spearmanr(cosines(mine), cosines(theirs)).statistic
    assert quality.value == pytest.approx(expected, abs=1e-9)
    assert quality.low < quality.value
    assert quality.n == 60


def test_few_texts_and_constant_origins_prove_nothing(processing: Processing) -> None:
    bound = TextEmbedding().bind(signature(), processing)
    few = np.random.default_rng(0).normal(size=(5, 6))
    assert bound.score([scored(few, few)]).low == -1
    same = np.ones((20, 6))
    assert "proves nothing" in bound.score([scored(same, same)]).metric
    with pytest.raises(SamplesError, match="at least 2"):
        bound.score([scored(few[:1], few[:1])])


def test_the_task_follows_from_the_output() -> None:
    assert choose(signature(), "texts") == "text_embedding"
    assert choose(signature("logits"), "texts") == "text_classification"
    with pytest.raises(InputError, match="--task"):
        choose(signature("last_hidden_state"), "texts")


def test_a_fixed_length_is_padded_to(processing: Processing) -> None:
    bound = TextEmbedding().bind(signature(length=9), processing)
    feeds = bound.encode([Record("cat"), Record("the cat " * 20)])
    assert [list(array.shape) for array in feeds.values()] == [[2, 9]] * 2
    assert feeds["attention_mask"].sum(axis=1).tolist() == [3, 9]


def test_what_is_missing_is_said(processing: Processing) -> None:
    with pytest.raises(InputError, match="nothing says how texts become tokens"):
        TextEmbedding().bind(signature(), None)
    with pytest.raises(InputError, match=r"a float output sentence_embedding"):
        TextEmbedding().bind(signature("logits"), processing)
    with pytest.raises(InputError, match="2 class names"):
        TextClassification().bind(signature("logits"), processing)


def test_classes_have_their_names(processing: Processing) -> None:
    bound = TextClassification().bind(signature("logits", size=2), processing)
    told = bound.decode({"logits": np.array([[0.0, 2.0], [3.0, 0.0]], np.float32)}, [])
    assert [row["class"] for row in told] == ["yes", "no"]
