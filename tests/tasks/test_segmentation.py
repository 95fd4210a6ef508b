"""What only segmentation does: masks placed as their images are, mIoU on labels, forms of heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import ImageProcessing, Processing
from onnxpress.samples import Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Quality, Scored, choose
from onnxpress.tasks.segmentation import Segmentation

X = TensorSpec("x", "float32", ("batch", 3, 8, 8))


READY = Record({"x": np.zeros((3, 8, 8), np.float32)})
"""A tensor, which belongs to no image: its mask is as large as the model's."""


def image(height: int, width: int) -> Record:
    return Record(np.zeros((height, width, 3), np.uint8))


def bind(
    shape: tuple[int | str, ...] = ("batch", 3, 8, 8),
    dtype: str = "float32",
    labels: tuple[str, ...] = (),
    **processing: object,
) -> Bound:
    signature = Signature((X,), (TensorSpec("y", dtype, shape),))
    image = ImageProcessing(**processing)  # type: ignore[arg-type]
    return Segmentation().bind(signature, Processing(image, labels))


def logits(maps: np.ndarray, classes: int = 3) -> np.ndarray:
    """float32 (n, classes, h, w) that are highest at the given class."""
    return np.eye(classes, dtype=np.float32)[maps].transpose(0, 3, 1, 2)


def masks(count: int, seed: int = 0, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (count, 8, 8))


def spoiled(maps: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The maps with a share of the pixels drawn anew."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(maps.shape) < share, rng.integers(0, 3, maps.shape), maps)


def score(bound: Bound, mine: np.ndarray, theirs: np.ndarray, truth: np.ndarray) -> Quality:
    labels = [bound.truth(Record({"x": np.zeros(1)}, mask, "a")) for mask in truth]
    return bound.score([Scored({"y": mine}, {"y": theirs}, labels)])


def iou(mine: np.ndarray, truth: np.ndarray) -> float:
    """Written independently: by sets of pixels."""
    every = [
        ((mine == c) & (truth == c)).sum() / ((mine == c) | (truth == c)).sum() for c in (0, 1, 2)
    ]
    return float(np.mean(every))


class TestQuality:
    def test_labels_make_a_ratio_of_mean_ious(self) -> None:
        truth = masks(60)
        theirs, mine = spoiled(truth, 0.2, 1), spoiled(truth, 0.4, 2)
        quality = score(bind(), logits(mine), logits(theirs), truth)
        assert quality.metric == "mIoU / origin's mIoU"
        assert quality.origin == pytest.approx(iou(theirs, truth))
        assert quality.candidate == pytest.approx(iou(mine, truth))
        assert quality.value == pytest.approx(iou(mine, truth) / iou(theirs, truth))
        assert quality.value - 0.1 < quality.low < quality.value < 1
        assert quality.n == 60

    def test_unlabelled_pixels_do_not_count(self) -> None:
        truth = masks(20)
        origin = logits(truth)
        truth[:, :4] = 255
        wrong_there = truth.copy()
        wrong_there[:, :4] = 1
        quality = score(bind(), logits(wrong_there), origin, truth)
        assert (quality.value, quality.origin) == (1, 1)

    def test_labels_that_the_origin_does_not_know_prove_nothing(self) -> None:
        theirs = masks(20, 5)
        quality = score(bind(), logits(theirs), logits(theirs), masks(20, 6))
        assert quality.metric.startswith("mIoU with the origin's masks (the labels prove nothing")
        assert (quality.value, quality.origin) == (1, None)

    def test_one_class_everywhere_proves_nothing(self) -> None:
        flat = np.zeros((20, 8, 8), int)
        quality = score(bind(), logits(flat), logits(flat), flat)
        assert (quality.value, quality.low) == (1, 0)
        assert "proves nothing: the labels have class 0 everywhere" in quality.metric

    def test_few_samples_prove_nothing(self) -> None:
        truth = masks(7)
        assert score(bind(), logits(truth), logits(truth), truth).low == -1

    def test_what_is_kept_on_disk_scores_the_same(self) -> None:
        bound, truth = bind(), masks(30)
        outputs = ({"y": logits(spoiled(truth, 0.3, s))} for s in (1, 2))
        mine, theirs = outputs
        full = bound.score([Scored(mine, theirs, list(truth))])
        kept = [bound.condensed(each, {}) for each in (mine, theirs)]
        assert kept[0]["y"].nbytes * 6 == mine["y"].nbytes
        assert bound.score([Scored(*kept, list(truth))]) == full

    def test_the_interval_covers(self) -> None:
        """Of 60 draws of 40 images, the lower end is above the true ratio in a few only."""
        everything = masks(2400, 9)
        theirs, mine = spoiled(everything, 0.2, 10), spoiled(everything, 0.3, 11)
        true = iou(mine, everything) / iou(theirs, everything)
        above = 0
        for at in range(0, 2400, 40):
            part = slice(at, at + 40)
            found = score(bind(), logits(mine[part]), logits(theirs[part]), everything[part])
            above += found.low > true
        assert above <= 5


class TestHeads:
    def test_integers_are_classes(self) -> None:
        bound = bind(("batch", 8, 8), "int64", ("a", "b", "c"))
        truth = masks(10)
        np.testing.assert_array_equal(bound.rows({"y": truth}, [READY] * 10)[3], truth[3])
        assert score(bound, truth, truth, truth).value == 1

    def test_one_score_is_inside_or_outside(self) -> None:
        bound = bind(("batch", 1, 8, 8))
        inside = masks(10, classes=2)
        output = np.where(inside == 1, 0.1, -3.0).astype(np.float32)[:, np.newaxis]
        np.testing.assert_array_equal(np.stack(bound.rows({"y": output}, [READY] * 10)), inside)  # type: ignore[arg-type]
        assert score(bound, output, output, inside * 255).origin == 1

    def test_channels_last(self) -> None:
        signature = Signature(
            (TensorSpec("x", "float32", ("batch", 8, 8, 3)),),
            (TensorSpec("y", "float32", ("batch", 8, 8, 4)),),
        )
        assert choose(signature, "images") == "segmentation"
        bound = Segmentation().bind(signature, Processing(ImageProcessing()))
        maps = masks(3, classes=4)
        output = logits(maps, 4).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(np.stack(bound.rows({"y": output}, [READY] * 3)), maps)  # type: ignore[arg-type]

    def test_not_a_number_is_no_class(self) -> None:
        output = logits(masks(1))
        output[0, 1, 2, 3] = np.nan
        [row] = bind().rows({"y": output}, [READY])
        assert isinstance(row, np.ndarray)
        assert (row == 255).sum() == 1
        assert row[2, 3] == 255

    @pytest.mark.parametrize(
        ("name", "shape", "task"),
        [
            ("y", ("batch", 3, 16, 16), "image_to_image"),
            ("logits", ("batch", 3, 8, 8), "segmentation"),
            ("y", ("batch", 1, 8, 8), "segmentation"),
            ("y", ("batch", 21, 2, 2), "segmentation"),
            ("y", ("batch", 10), "image_classification"),
        ],
    )
    def test_which_task_is_natural(
        self, name: str, shape: tuple[int | str, ...], task: str
    ) -> None:
        assert choose(Signature((X,), (TensorSpec(name, "float32", shape),)), "images") == task


class TestPlaces:
    def test_a_mask_is_scaled_and_cropped_as_its_image(self, tmp_path: Path) -> None:
        """An image of its own mask: what the model sees of one is what it sees of the other."""
        mask = np.zeros((24, 40), np.uint8)
        mask[4:20, 6:16], mask[8:16, 20:36] = 1, 2
        Image.fromarray(mask * 100).save(tmp_path / "image.png")
        Image.fromarray(mask).save(tmp_path / "mask.png")
        record = Record(tmp_path / "image.png", tmp_path / "mask.png", "image.png")
        for how in (
            {"size": (12, 12), "crop": (8, 8)},
            {"size": (8, 8)},
            {"letterbox": 114, "size": (8, 8)},
        ):
            bound = bind(interpolation="nearest", **how)
            truth = bound.truth(record)
            seen = (bound.encode([record])["x"][0, 0] * 255).round().astype(int)
            assert isinstance(truth, np.ndarray)
            assert truth.shape == (8, 8)
            assert set(np.unique(truth)) >= {0, 1, 2}
            if "letterbox" in how:
                assert ((truth == -1) == (seen == 114)).all()
            else:
                np.testing.assert_array_equal(truth, seen // 100)

    def test_masks_come_back_as_large_as_the_image(self) -> None:
        bound = bind(("batch", 3, 4, 4), size=(8, 8), labels=("sky", "road", "tree"))
        maps = np.array([[[0, 1, 2, 0]] * 4])
        [mask] = bound.rows({"y": logits(maps)}, [image(20, 40)])
        assert isinstance(mask, np.ndarray)
        assert (mask.shape, mask.dtype) == ((20, 40), np.uint8)
        np.testing.assert_array_equal(mask[0], np.repeat([0, 1, 2, 0], 10))
        assert bound.told(mask) == {
            "size": [20, 40],
            "shares": {"sky": 0.5, "road": 0.25, "tree": 0.25},
        }

    def test_what_a_crop_cuts_off_is_no_class(self) -> None:
        bound = bind(size=(8, 8), crop=(8, 8))
        [mask] = bound.rows({"y": logits(masks(1) * 0)}, [image(10, 20)])
        assert isinstance(mask, np.ndarray)
        assert (mask[:, :5] == 255).all()
        assert (mask[:, 5:15] == 0).all()
        assert bound.told(mask) == {"size": [10, 20], "shares": {"0": 0.5}}


class TestRefusals:
    @pytest.mark.parametrize(
        ("label", "expected"),
        [
            (np.full((8, 8), 7), r"the mask of 'a' has class 7; expected classes from 0 to 2"),
            (np.zeros((4, 4), int), "the mask of 'a' is 4×4 and its image 8×8"),
            (np.zeros((8, 8)), r"the label of 'a' is float64\[8, 8\]; expected a mask"),
            (np.zeros((8, 8, 3), int), r"is int64\[8, 8, 3\]"),
            (3, "the label of 'a' is 3; expected a mask"),
            (Path("absent.png"), "the mask of 'a', absent.png, cannot be read"),
        ],
    )
    def test_masks(self, label: object, expected: str) -> None:
        record = Record(np.zeros((8, 8, 3), np.uint8), label, "a")  # type: ignore[arg-type]
        with pytest.raises(SamplesError, match=expected) as caught:
            bind().truth(record)
        assert "\n" not in str(caught.value)

    def test_models(self) -> None:
        with pytest.raises(InputError, match="a fixed number of classes"):
            bind(("batch", "classes", 8, 8))
        with pytest.raises(InputError, match="2 class names for output"):
            bind(labels=("a", "b"))
        with pytest.raises(InputError, match="choose another --task"):
            bind(("batch", 3))
