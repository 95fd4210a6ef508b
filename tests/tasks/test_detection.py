"""Detection: heads read rightly, boxes in the image's pixels, and COCO's mAP against the origin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from onnxpress.errors import InputError, MissingExtra, SamplesError
from onnxpress.processing import ImageProcessing, Processing
from onnxpress.samples import Label, Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.task import Bound, Quality, Scored, choose
from onnxpress.tasks._boxes import Boxes, overlaps
from onnxpress.tasks.detection import Detection

NAMES = ("circle", "square", "star")
IMAGE = TensorSpec("image", "float32", ("batch", 3, 64, 64))


def signature(**outputs: tuple[int | str, ...]) -> Signature:
    specs = (TensorSpec(name, "float32", ("batch", *dims)) for name, dims in outputs.items())
    return Signature((IMAGE,), tuple(specs))


RAW = signature(boxes=(10, 7))
DETR = signature(logits=(10, 4), pred_boxes=(10, 4))
SELECTED = signature(boxes=("n", 4), scores=("n",), labels=("n",))


def bound(of: Signature = RAW, names: tuple[str, ...] = NAMES, **image: object) -> Bound:
    processing = ImageProcessing(**{"letterbox": 114, **image})  # type: ignore[arg-type]
    return Detection().bind(of, Processing(processing, names))


def raw(*boxes: tuple[int, float, float, float, float, float]) -> np.ndarray:
    """One image of (10, 7) from (class, score, left, top, width, height)."""
    rows = np.zeros((10, 7), np.float32)
    for row, (label, score, left, top, width, height) in zip(rows, boxes, strict=False):
        row[:4] = left + width / 2, top + height / 2, width, height
        row[4 + label] = score
    return rows


CIRCLE, SQUARE = (0, 0.9, 8, 20, 16, 12), (1, 0.6, 40, 32, 8, 10)


def found(task: Bound, outputs: Feeds) -> list[tuple[object, float, list[float]]]:
    ready = Record(np.zeros((3, 64, 64), np.float32))
    [told] = task.decode(outputs, [ready])
    detections = told["detections"]
    assert isinstance(detections, list)
    return [
        (item["class"], round(item["score"], 4), [round(side, 3) for side in item["box"]])
        for item in detections
    ]


class TestHeads:
    EXPECTED: ClassVar = [("circle", 0.9, [8, 20, 16, 12]), ("square", 0.6, [40, 32, 8, 10])]

    def test_anchors(self) -> None:
        assert found(bound(), {"boxes": raw(SQUARE, CIRCLE)[None]}) == self.EXPECTED

    def test_anchors_along_the_last_axis(self) -> None:
        task = bound(signature(output0=(7, 10)))
        assert found(task, {"output0": raw(SQUARE, CIRCLE).T[None]}) == self.EXPECTED

    def test_objectness_multiplies_where_there_is_one_value_more_than_names(self) -> None:
        rows = raw(SQUARE, CIRCLE)
        objects = np.full((10, 1), 0.5, np.float32)
        rows = np.concatenate([rows[:, :4], objects, rows[:, 4:]], axis=1)
        halved = [(name, score / 2, box) for name, score, box in self.EXPECTED]
        assert found(bound(signature(y=(10, 8))), {"y": rows[None]}) == halved

    def test_queries(self) -> None:
        logits = np.zeros((1, 10, 4), np.float32)
        logits[..., 3] = 20  # no object
        boxes = np.zeros((1, 10, 4), np.float32)
        for query, (label, score, left, top, width, height) in ((3, SQUARE), (7, CIRCLE)):
            logits[0, query] = np.log((1 - score) / 3)
            logits[0, query, label] = np.log(score)
            boxes[0, query] = np.array([left + width / 2, top + height / 2, width, height]) / 64
        assert found(bound(DETR), {"logits": logits, "pred_boxes": boxes}) == self.EXPECTED

    def test_selected(self) -> None:
        outputs = {
            "boxes": np.array([[[40, 32, 48, 42], [8, 20, 24, 32], [0, 0, 0, 0]]], np.float32),
            "scores": np.array([[0.6, 0.9, 0]], np.float32),
            "labels": np.array([[1, 0, -1]], np.int64),
        }
        assert found(bound(SELECTED), outputs) == self.EXPECTED

    def test_without_a_name_the_class_is_its_number(self) -> None:
        task = bound(names=())
        assert found(task, {"boxes": raw(SQUARE)[None]}) == [(1, 0.6, [40, 32, 8, 10])]

    def test_what_overlaps_a_better_box_of_its_class_is_suppressed(self) -> None:
        near, other = (0, 0.8, 9, 20, 16, 12), (1, 0.7, 9, 20, 16, 12)
        told = found(bound(), {"boxes": raw(near, CIRCLE, other)[None]})
        assert [(name, score) for name, score, _ in told] == [("circle", 0.9), ("square", 0.7)]

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_not_finite_is_no_detection(self, value: float) -> None:
        rows = raw(CIRCLE, SQUARE)
        rows[0, 2] = value
        assert [name for name, _, _ in found(bound(), {"boxes": rows[None]})] == ["square"]
        broken = np.full((1, 10, 4), value, np.float32)
        assert found(bound(DETR), {"logits": broken, "pred_boxes": broken}) == []

    def test_suppression_leaves_no_overlap_and_loses_no_single_box(self) -> None:
        rng = np.random.default_rng(0)
        low = rng.uniform(0, 100, (400, 2))
        corners = np.concatenate([low, low + rng.uniform(5, 30, (400, 2))], axis=1)
        boxes = Boxes(corners, rng.uniform(0.02, 1, 400), rng.integers(0, 3, 400))
        kept = boxes.suppressed()
        for index, one in enumerate(kept.corners):
            alike = (overlaps(kept.corners, one) > 0.6) & (kept.classes == kept.classes[index])
            assert alike.sum() == 1
        lost = boxes.scores > kept.scores.min()
        for corner, score, label in zip(
            corners[lost], boxes.scores[lost], boxes.classes[lost], strict=True
        ):
            same = (kept.classes == label) & (kept.scores >= score)
            assert (overlaps(kept.corners[same], corner) > 0.6).any()


class TestBind:
    @pytest.mark.parametrize("of", [RAW, DETR, SELECTED, signature(detections=(10, 7))])
    def test_the_natural_task(self, of: Signature) -> None:
        assert choose(of, "images") == "detection"
        assert not Detection().fits(of, "texts")

    @pytest.mark.parametrize(
        "of",
        [signature(logits=(10,)), signature(last_hidden_state=(10, 7)), signature(y=(3, 8, 8))],
    )
    def test_it_takes_no_other_model(self, of: Signature) -> None:
        assert not Detection().fits(of, "images")

    @pytest.mark.parametrize(
        ("of", "names"),
        [(RAW, ("a",)), (signature(y=(3, 8, 8)), ()), (signature(y=("n", "m")), ())],
    )
    def test_heads_that_are_none_are_refused(self, of: Signature, names: tuple[str, ...]) -> None:
        with pytest.raises(InputError, match=r"one of rank 3 \(batch, anchors, 4 \+ classes\)"):
            bound(of, names)


class TestPixels:
    def test_boxes_lie_in_the_image(self) -> None:
        task = bound()
        records = [Record(np.zeros((50, 100, 3), np.uint8)), Record(np.zeros((3, 64, 64), "f4"))]
        outputs = {"boxes": np.stack([raw(CIRCLE), raw(CIRCLE)])}
        image, ready = task.decode(outputs, records)
        # 100×50 becomes 64×32 with 16 gray rows above.
        assert image["detections"][0]["box"] == pytest.approx([12.5, 6.25, 25, 18.75])  # type: ignore[index]
        assert ready["detections"][0]["box"] == pytest.approx([8, 20, 16, 12])  # type: ignore[index]

    def test_labels_come_to_where_the_model_sees_them(self) -> None:
        label = np.array([[2, 12.5, 6.25, 25, 18.75]])
        truth = bound().truth(Record(np.zeros((50, 100, 3), np.uint8), label))
        np.testing.assert_allclose(np.asarray(truth), [[2, 8, 20, 24, 32]])
        assert bound().truth(Record(np.zeros((50, 100, 3), np.uint8))) is None

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            (3, r"'r' is labelled 3; expected numbers \[n, 5\]"),
            (np.zeros((2, 4)), r"float64\[2, 4\]; expected numbers \[n, 5\]"),
            (np.array([[3, 0, 0, 1, 1]]), r"classes \[3.0\]; expected whole numbers from 0 to 2"),
            (np.array([[0.5, 0, 0, 1, 1]]), r"classes \[0.5\]; expected whole numbers"),
            (np.array([[0, 0, 0, -1, 1]]), "a box of no size"),
        ],
    )
    def test_labels_that_are_none_are_refused(self, label: Label, message: str) -> None:
        with pytest.raises(SamplesError, match=message):
            bound().truth(Record(np.zeros((50, 100, 3), np.uint8), label, "r"))


def drawn(count: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Labels in model pixels and the outputs of a detector that is always right."""
    rng = np.random.default_rng(seed)
    labels, outputs = [], []
    for _ in range(count):
        boxes = []
        for column in rng.permutation(4)[: rng.integers(0, 5)]:
            left, top = 16 * column, rng.integers(0, 40)
            width, height = rng.integers(6, 15), rng.integers(8, 24)
            boxes.append((int(rng.integers(3)), rng.uniform(0.6, 0.9), left, top, width, height))
        corners = [(label, x, y, x + w, y + h) for label, _, x, y, w, h in boxes]
        labels.append(np.array(corners, np.float64).reshape(-1, 5))
        outputs.append(raw(*boxes))
    return labels, np.stack(outputs)


def score(
    candidate: np.ndarray,
    reference: np.ndarray,
    labels: Sequence[Label | None] | None = None,
    *,
    condensed: bool = True,
) -> Quality:
    task = bound()
    every = [None] * len(reference) if labels is None else labels

    def batch(at: slice) -> Scored:
        outputs, expected = {"boxes": candidate[at]}, {"boxes": reference[at]}
        if condensed:
            outputs, expected = task.condensed(outputs, {}), task.condensed(expected, {})
        return Scored(outputs, expected, every[at])

    return task.score(batch(slice(at, at + 16)) for at in range(0, len(reference), 16))


def moved(outputs: np.ndarray, pixels: float) -> np.ndarray:
    return outputs + np.float32(pixels) * np.eye(7, dtype=np.float32)[0]


class TestScore:
    def test_a_detector_that_is_right_has_map_one(self) -> None:
        labels, outputs = drawn(60)
        quality = score(outputs, outputs, labels)
        assert (quality.value, quality.low, quality.n) == (1, pytest.approx(1), 60)
        assert quality.origin == pytest.approx(1)
        assert quality.metric == "COCO mAP / origin's COCO mAP"

    @pytest.mark.parametrize("condensed", [True, False])
    def test_it_is_relative_to_the_origins(self, condensed: bool) -> None:
        labels, outputs = drawn(60)
        worse = moved(outputs, 1.5)
        quality = score(worse, outputs, labels, condensed=condensed)
        assert quality.origin == pytest.approx(1)
        assert quality.candidate == pytest.approx(quality.value)
        assert 0.3 < quality.low < quality.value < 0.9
        better = score(outputs, worse, labels, condensed=condensed)
        assert better.value == pytest.approx(1 / quality.value)

    def test_a_detector_that_misses_every_other_object_has_about_half(self) -> None:
        labels, outputs = drawn(200)
        half = outputs.copy()
        half[::2, :, 4:] = 0
        assert score(half, outputs, labels).value == pytest.approx(0.5, abs=0.06)

    def test_the_interval_covers_what_more_images_say(self) -> None:
        rng = np.random.default_rng(5)

        def measured(seed: int, count: int) -> Quality:
            labels, outputs = drawn(count, seed)
            worse = np.where(rng.random((count, 1, 1)) < 0.2, moved(outputs, 2), outputs)
            return score(worse.astype(np.float32), outputs, labels)

        truth = measured(99, 600).value
        lows = [measured(seed, 48).low for seed in range(12)]
        assert sum(low <= truth for low in lows) >= 10
        assert np.mean(lows) > truth - 0.2

    def test_images_without_labels_do_not_count_beside_those_with(self) -> None:
        labels, outputs = drawn(40)
        some = [label if index % 2 else None for index, label in enumerate(labels)]
        assert score(outputs, outputs, some).n == 20

    def test_without_labels_the_origins_detections_are_the_truth(self) -> None:
        _, outputs = drawn(60)
        assert score(outputs, outputs).value == 1
        quality = score(moved(outputs, 1.5), outputs)
        assert 0.3 < quality.value < 0.9
        assert "origin's detections" in quality.metric
        assert (quality.origin, quality.candidate) == (None, None)

    def test_labels_that_the_origin_never_meets_are_told(self) -> None:
        labels, outputs = drawn(40)
        wrong = [np.concatenate([label[:, :1], label[:, 1:] + 500], axis=1) for label in labels]
        quality = score(outputs, outputs, wrong)
        assert quality.value == 1
        assert "the labels prove nothing: the origin's mAP is 0" in quality.metric

    def test_without_objects_nothing_is_proven(self) -> None:
        nothing = np.zeros((20, 10, 7), np.float32)
        quality = score(nothing, nothing)
        assert (quality.value, quality.low) == (1, -1)
        assert "there is no object in 20 samples" in quality.metric

    def test_the_same_objects_everywhere_prove_nothing(self) -> None:
        same = np.stack([raw(CIRCLE)] * 20)
        quality = score(same, same)
        assert (quality.value, quality.low) == (1, 0)
        assert "all samples have the same objects" in quality.metric

    def test_a_candidate_of_another_shape_finds_nothing(self) -> None:
        labels, outputs = drawn(20)
        assert score(outputs[:, :, :3], outputs, labels).value == 0

    def test_without_pycocotools_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        labels, outputs = drawn(2)
        monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
        with pytest.raises(MissingExtra, match=r"pip install 'onnxpress\[detection\]'"):
            score(outputs, outputs, labels)
