"""Image embedding: which model it is, what a caller gets, and what quality follows."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import ImageProcessing, Processing
from onnxpress.samples import Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Scored, choose
from onnxpress.tasks.embedding import Embedding


def signature(*names: str) -> Signature:
    outputs = tuple(TensorSpec(name, "float32", ("batch", 4)) for name in names)
    return Signature((TensorSpec("image", "float32", ("batch", 3, 8, 6)),), outputs)


def bound(*names: str) -> Bound:
    return Embedding().bind(signature(*(names or ("embedding",))), Processing(ImageProcessing()))


def vectors(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "task"),
    [("embedding", "embedding"), ("image_embeds", "embedding"), ("y", "image_classification")],
)
def test_the_outputs_name_tells_vectors_from_scores(name: str, task: str) -> None:
    assert choose(signature(name), "images") == task


def test_texts_are_not_for_it() -> None:
    assert not Embedding().fits(signature("embedding"), "texts")


def test_the_named_output_counts_before_others() -> None:
    rows = vectors(3)
    found = bound("logits", "embedding").rows({"logits": -rows, "embedding": rows}, [])
    np.testing.assert_array_equal(np.stack(found), rows)  # type: ignore[arg-type]  # arrays


def test_a_caller_gets_one_float32_array() -> None:
    rows = vectors(3).astype(np.float64)
    task = bound()
    together = task.gather(task.rows({"embedding": rows}, []))
    assert isinstance(together, np.ndarray)
    assert (together.shape, together.dtype) == ((3, 4), np.float32)
    assert task.decode({"embedding": rows[:1]}, []) == [{"embedding": together[0].tolist()}]


def test_images_are_prepared() -> None:
    image = np.full((16, 12, 3), 255, np.uint8)
    feeds = bound().encode([Record(image)])
    np.testing.assert_allclose(feeds["image"], np.ones((1, 3, 8, 6)), rtol=1e-6)


def test_quality_does_not_see_length_or_rotation() -> None:
    """Cosine similarities are all that embeddings are used for."""
    rows = vectors(40)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    turned = {"embedding": (3 * rows @ turn).astype(np.float32)}
    quality = bound().score([Scored(turned, {"embedding": rows}, [None] * 40)])
    assert quality.value == pytest.approx(1, abs=1e-6)
    assert "Spearman" in quality.metric


def test_one_sample_makes_no_pair() -> None:
    rows = {"embedding": vectors(1)}
    with pytest.raises(SamplesError, match="1 samples to score with; expected at least 2"):
        bound().score([Scored(rows, rows, [None])])


def test_a_model_without_vectors_is_refused() -> None:
    wrong = Signature(signature("y").inputs, (TensorSpec("y", "float32", ("batch", 4, 8, 6)),))
    with pytest.raises(InputError, match=r"a float output \(batch, dimensions\); choose another"):
        Embedding().bind(wrong, Processing(ImageProcessing()))
