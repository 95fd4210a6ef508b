"""Image classification: preparing, decoding, and a score that no constant predictor can win."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxpress.errors import InputError, SamplesError
from onnxpress.intervals import wilson_lower
from onnxpress.processing import ImageProcessing, Processing
from onnxpress.samples import Label, Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Quality, Scored, choose
from onnxpress.tasks.image_classification import ImageClassification

NCHW = ("batch", 3, 8, 6)
NHWC = ("batch", 8, 6, 3)
NAMES = ("cat", "dog", "eel", "fox", "gnu")


def signature(
    shape: tuple[int | str, ...] = NCHW, dtype: str = "float32", classes: int | str = 5
) -> Signature:
    outputs = (TensorSpec("logits", "float32", ("batch", classes)),)
    return Signature((TensorSpec("x", dtype, shape),), outputs)


def bound(of: Signature | None = None, labels: tuple[str, ...] = (), **image: object) -> Bound:
    processing = Processing(ImageProcessing(**image), labels)  # type: ignore[arg-type]
    return ImageClassification().bind(of or signature(), processing)


def one_hot(classes: Sequence[int] | np.ndarray, count: int = 5) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[np.asarray(classes)] * 9


def score(
    candidate: np.ndarray,
    reference: np.ndarray,
    labels: Sequence[Label | None] | None = None,
    names: tuple[str, ...] = (),
    batch: int = 16,
) -> Quality:
    every = [None] * len(reference) if labels is None else labels
    return bound(labels=names).score(
        Scored(
            {"logits": candidate[at : at + batch]},
            {"logits": reference[at : at + batch]},
            every[at : at + batch],
        )
        for at in range(0, len(reference), batch)
    )


def pixels(height: int = 8, width: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def record(value: object, name: str = "r") -> Record:
    return Record(value, None, name)  # type: ignore[arg-type]  # wrong values are the point


class TestBind:
    def test_without_processing_it_names_the_missing_flags(self) -> None:
        message = "takes images, but nothing says how to prepare them; expected --preprocess "
        with pytest.raises(InputError, match=message + "mean=…,std=…;"):
            ImageClassification().bind(signature(), None)
        with pytest.raises(InputError, match=message + "size=…,mean=…,std=…;"):
            ImageClassification().bind(signature(("n", 3, "h", "w")), Processing(labels=NAMES))

    @pytest.mark.parametrize("shape", [("n", 3, 8, 3), ("n", 1, 1, 3), ("n", "a", "b", "c")])
    def test_an_ambiguous_layout_is_asked_for(self, shape: tuple[int | str, ...]) -> None:
        with pytest.raises(InputError, match="layout=nchw or layout=nhwc; add layout="):
            bound(signature(shape), size=(8, 8))

    def test_a_layout_that_is_given_decides(self) -> None:
        task = bound(signature(("n", 3, 8, 3)), layout="nhwc", size=(3, 8))
        assert task.encode([record(pixels())])["x"].shape == (1, 3, 8, 3)

    def test_a_layout_against_the_input_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"layout=nhwc; expected 1 or 3 channels"):
            bound(layout="nhwc")

    def test_a_size_is_asked_for_where_the_input_is_free(self) -> None:
        with pytest.raises(InputError, match="takes any image size; expected --preprocess size="):
            bound(signature(("n", 3, "h", "w")))

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            ({"size": (9, 6)}, "size=9x6; expected size=8x6, as input x: float32"),
            ({"size": (8, 8), "crop": (7, 6)}, "crop=7x6; expected crop=8x6"),
        ],
    )
    def test_a_size_against_the_input_is_refused(
        self, image: dict[str, object], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            bound(**image)

    def test_another_number_of_names_than_classes_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"3 class names for output .*; expected 5 names"):
            bound(labels=NAMES[:3])

    @pytest.mark.parametrize(
        "wrong", [signature(("n", 10)), signature(dtype="int64"), signature(classes=1)]
    )
    def test_a_model_of_another_kind_is_refused(self, wrong: Signature) -> None:
        with pytest.raises(InputError, match=r"one image input of rank 4, .*choose another --task"):
            bound(wrong)


class TestEncode:
    def encoded_image(self, path: Path) -> list[object]:
        buffer = io.BytesIO()
        Image.fromarray(pixels()).save(buffer, "PNG")
        path.write_bytes(buffer.getvalue())
        return [path, buffer.getvalue(), pixels(), Image.fromarray(pixels())]

    def test_every_form_of_an_image_gives_the_same_feed(self, tmp_path: Path) -> None:
        records = [record(value) for value in self.encoded_image(tmp_path / "a.png")]
        feeds = bound(mean=(0.5,), std=(0.25,)).encode(records)["x"]
        assert (feeds.shape, feeds.dtype) == ((4, 3, 8, 6), np.float32)
        expected = (pixels().transpose(2, 0, 1) / 255 - 0.5) / 0.25
        for feed in feeds:
            np.testing.assert_allclose(feed, expected, rtol=1e-5, atol=1e-6)

    def test_the_layout_follows_the_input(self) -> None:
        first = bound().encode([record(pixels())])["x"]
        last = bound(signature(NHWC)).encode([record(pixels())])["x"]
        np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)

    def test_size_is_the_inputs_where_it_is_fixed(self) -> None:
        assert bound().encode([record(pixels(30, 40))])["x"].shape == (1, 3, 8, 6)

    def test_size_is_the_processings_where_the_input_is_free(self) -> None:
        task = bound(signature(("n", 3, "h", "w")), size=(12, 10), crop=(9, 7))
        assert task.encode([record(pixels(30, 40))])["x"].shape == (1, 3, 9, 7)

    def test_gray_and_uint8_inputs(self) -> None:
        gray = bound(signature(("n", 1, 8, 6))).encode([record(pixels()[:, :, 0])])["x"]
        assert gray.shape == (1, 1, 8, 6)
        raw = bound(signature(NHWC, "uint8")).encode([record(pixels())])["x"]
        np.testing.assert_array_equal(raw[0], pixels())

    def test_ready_tensors_stay_as_they_are(self) -> None:
        ready = np.random.default_rng(0).normal(size=(3, 8, 6)).astype(np.float32)
        feeds = bound().encode([record(ready), record({"x": ready}), record(pixels())])["x"]
        np.testing.assert_array_equal(feeds[0], ready)
        np.testing.assert_array_equal(feeds[1], ready)

    def test_a_tensor_of_another_shape_is_named(self) -> None:
        with pytest.raises(SamplesError, match=r"'r' gives input 'x' float32\[8, 6, 3\]"):
            bound().encode([record(np.zeros((8, 6, 3), np.float32))])

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "broken.png").write_bytes(b"\x89PNG")
        with pytest.raises(SamplesError, match=r"broken\.png"):
            bound().encode([record(tmp_path / "broken.png", "broken.png")])
        with pytest.raises(SamplesError, match="'fourth'"):
            bound().encode([record(b"no image", "fourth")])

    def test_a_static_batch_takes_exactly_its_size(self) -> None:
        task = bound(signature((1, 3, 8, 6)))
        assert task.encode([record(pixels())])["x"].shape == (1, 3, 8, 6)
        with pytest.raises(SamplesError, match="a batch of 2 records; expected 1"):
            task.encode([record(pixels())] * 2)


class TestDecode:
    def test_logits_become_probabilities(self) -> None:
        row = np.array([[0, 1, 5, 2, -1]], np.float32)
        [decoded] = bound(labels=NAMES).decode({"logits": row}, [])
        assert json.loads(json.dumps(decoded)) == decoded
        assert (decoded["class"], decoded["index"]) == ("eel", 2)
        assert decoded["score"] == pytest.approx(float(np.exp(5) / np.exp(row).sum()))
        top = decoded["top"]
        assert isinstance(top, list)
        assert [entry["index"] for entry in top] == [2, 3, 1, 0, 4]
        assert sum(entry["score"] for entry in top) == pytest.approx(1)

    def test_probabilities_stay(self) -> None:
        row = np.array([[0.1, 0.2, 0.4, 0.25, 0.05]])
        [decoded] = bound().decode({"logits": row}, [])
        assert (decoded["class"], decoded["index"], decoded["score"]) == (2, 2, 0.4)

    def test_large_logits_and_many_classes(self) -> None:
        row = np.arange(1000, dtype=np.float32)[np.newaxis] * 1e3
        [decoded] = bound(signature(classes=1000)).decode({"logits": row}, [])
        assert decoded["score"] == pytest.approx(1)
        assert len(decoded["top"]) == 5  # type: ignore[arg-type]

    def test_one_prediction_per_row(self) -> None:
        assert [row["index"] for row in bound().decode({"logits": one_hot([3, 0])}, [])] == [3, 0]


TRUTH = np.arange(200) % 5
"""200 labels, 40 of each class."""

ORIGIN = np.where(np.arange(200) // 5 % 5 < 4, TRUTH, (TRUTH + 1) % 5)
"""What the origin says: 80 % right, each class equally often."""


class TestAgreement:
    def test_the_origin_has_exactly_one(self) -> None:
        quality = score(one_hot(ORIGIN), one_hot(ORIGIN))
        assert (quality.value, quality.n, quality.metric) == (1, 200, "top-1 agreement")
        assert quality.low == wilson_lower(200, 200)
        assert quality.origin is quality.candidate is None

    def test_a_constant_is_at_chance(self) -> None:
        for constant in range(5):
            quality = score(one_hot([constant] * 200), one_hot(ORIGIN))
            assert quality.value == pytest.approx(0.2)
        assert score(np.zeros((200, 5)), one_hot(ORIGIN)).value < 0.25

    def test_shuffled_rows_and_swapped_classes_fail(self) -> None:
        shuffled = np.random.default_rng(0).permutation(ORIGIN)
        assert score(one_hot(shuffled), one_hot(ORIGIN)).value < 0.4
        assert score(one_hot(ORIGIN)[:, ::-1], one_hot(ORIGIN)).value < 0.4

    def test_swapping_two_classes_fails_a_floor(self) -> None:
        quality = score(one_hot(ORIGIN)[:, [1, 0, 2, 3, 4]], one_hot(ORIGIN))
        assert quality.low < 0.9

    def test_nan_never_agrees(self) -> None:
        broken = one_hot(ORIGIN)
        broken[:50, 4] = np.nan
        assert score(broken, one_hot(ORIGIN)).value == 0.75
        assert score(broken, broken).value == 0.75

    def test_no_such_output_or_another_shape_never_agrees(self) -> None:
        assert score(np.zeros((200, 5, 1)), one_hot(ORIGIN)).value == 0
        batch = Scored({}, {"logits": one_hot(ORIGIN)}, [None] * 200)
        assert bound().score([batch]).value == 0

    @pytest.mark.parametrize("labels", [None, TRUTH.tolist()])
    def test_batches_do_not_matter(self, labels: list[Label | None] | None) -> None:
        candidate = one_hot(np.roll(ORIGIN, 3))
        whole, small = (score(candidate, one_hot(ORIGIN), labels, batch=b) for b in (200, 7))
        assert whole == small


class TestAccuracy:
    def test_the_origin_has_exactly_one(self) -> None:
        quality = score(one_hot(ORIGIN), one_hot(ORIGIN), TRUTH.tolist())
        assert (quality.value, quality.n) == (1, 200)
        assert quality.origin == quality.candidate == 0.8
        assert quality.metric == "accuracy / origin's accuracy"
        assert quality.low == pytest.approx(1 - (1 - wilson_lower(200, 200)) / 0.8)

    def test_it_may_exceed_one(self) -> None:
        quality = score(one_hot(TRUTH), one_hot(ORIGIN), TRUTH.tolist())
        assert quality.value == pytest.approx(1.25)
        assert 1 < quality.low < quality.value

    def test_a_constant_is_at_chance(self) -> None:
        quality = score(one_hot([2] * 200), one_hot(ORIGIN), TRUTH.tolist())
        assert quality.candidate == 0.2
        assert quality.value == 0.25

    def test_shuffled_labels_and_swapped_classes_fail(self) -> None:
        shuffled = np.random.default_rng(0).permutation(ORIGIN)
        for candidate in (one_hot(shuffled), one_hot(ORIGIN)[:, ::-1]):
            assert score(candidate, one_hot(ORIGIN), TRUTH.tolist()).value < 0.5
        swapped = score(one_hot(ORIGIN)[:, [1, 0, 2, 3, 4]], one_hot(ORIGIN), TRUTH.tolist())
        assert swapped.low < 0.9

    @pytest.mark.parametrize("kind", [int, float, np.int64])
    def test_labels_are_indices(self, kind: type) -> None:
        labels = [kind(label) for label in TRUTH]
        assert score(one_hot(ORIGIN), one_hot(ORIGIN), labels).origin == 0.8

    def test_labels_are_names(self) -> None:
        labels = [NAMES[label] for label in TRUTH]
        assert score(one_hot(ORIGIN), one_hot(ORIGIN), labels, NAMES).origin == 0.8

    def test_folders_may_be_numbers(self) -> None:
        labels = [str(label) for label in TRUTH]
        assert score(one_hot(ORIGIN), one_hot(ORIGIN), labels).origin == 0.8

    @pytest.mark.parametrize(
        ("label", "names"),
        [(5, ()), (-1, ()), (0.5, ()), ("cat", ()), ("ape", NAMES), ("1", NAMES)],
    )
    def test_an_unknown_label_is_refused(self, label: Label, names: tuple[str, ...]) -> None:
        with pytest.raises(SamplesError, match=f"labelled {label!r}; expected a class from 0 to 4"):
            score(one_hot([0, 1]), one_hot([0, 1]), [0, label], names)

    def test_only_labelled_records_count(self) -> None:
        labels: list[Label | None] = [
            int(label) if i % 2 else None for i, label in enumerate(TRUTH)
        ]
        assert score(one_hot(ORIGIN), one_hot(ORIGIN), labels).n == 100

    @pytest.mark.parametrize("right", [0, 25, 48])
    def test_an_origin_no_better_than_a_constant_is_compared_by_agreement(self, right: int) -> None:
        """As where labels count other classes: a constant would be as often right."""
        answers = np.array([t if i < right else (t + 1) % 5 for i, t in enumerate(TRUTH)])
        quality = score(one_hot(answers), one_hot(answers), TRUTH.tolist())
        assert quality.value == 1
        share = f"{right / len(TRUTH):.1%}"
        assert quality.metric.startswith("top-1 agreement (the labels prove nothing: the origin")
        assert f"gets {share} of them right, and one class alone is 20.0%" in quality.metric
        constant = score(one_hot(np.zeros_like(TRUTH)), one_hot(answers), TRUTH.tolist())
        assert constant.low < 0.3


class TestTooFewSamples:
    def test_no_samples_are_refused(self) -> None:
        with pytest.raises(SamplesError, match="no samples to score with"):
            score(one_hot([0])[:0], one_hot([0])[:0])

    def test_samples_of_one_class_prove_nothing(self) -> None:
        agreed = score(one_hot([3] * 40), one_hot([3] * 40))
        assert (agreed.value, agreed.low) == (1, 0)
        assert "the origin says class 3 for all 40 samples" in agreed.metric
        labelled = score(one_hot(ORIGIN), one_hot(ORIGIN), [2] * 200)
        assert labelled.low <= 0
        assert "the labels say class 2 for all 200 samples" in labelled.metric

    def test_needed(self) -> None:
        assert [bound().needed(floor) for floor in (-1, 0, 0.9, 0.99, 1)] == [1, 1, 35, 381, None]
        assert bound().provable(35) == pytest.approx(0.9, abs=0.002)


class TestFits:
    def test_images_and_a_classifier(self) -> None:
        for shape in (NCHW, NHWC, ("n", "c", "h", "w")):
            assert ImageClassification().fits(signature(shape), "images")
            assert choose(signature(shape), "images") == "image_classification"

    @pytest.mark.parametrize(
        "wrong",
        [
            signature(("n", 64, 28, 28)),
            signature(("n", 3)),
            signature(classes=1),
            signature(dtype="int64"),
        ],
    )
    def test_other_models_do_not_fit(self, wrong: Signature) -> None:
        assert not ImageClassification().fits(wrong, "images")
        with pytest.raises(
            InputError, match=r"no task fits samples of images .*--task with one of"
        ):
            choose(wrong, "images")

    def test_tensors_choose_the_tensor_task(self) -> None:
        assert choose(signature(), "tensors") == "tensor"
