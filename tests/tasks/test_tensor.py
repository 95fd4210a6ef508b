"""The tensor task: stacking, decoding, and a similarity that a constant cannot win."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from onnxpress.errors import SamplesError
from onnxpress.samples import Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Quality, Scored
from onnxpress.tasks.tensor import Tensor

X = TensorSpec("x", "float32", ("batch", 3))
MASK = TensorSpec("mask", "int64", ("batch", "length"))
Y = TensorSpec("y", "float32", ("batch", 4))
KIND = TensorSpec("kind", "int64", ("batch",))


def bound(inputs: Sequence[TensorSpec] = (X,), outputs: Sequence[TensorSpec] = (Y,)) -> Bound:
    return Tensor().bind(Signature(tuple(inputs), tuple(outputs)), None)


def rows(count: int = 64, seed: int = 0, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def score(
    candidate: np.ndarray, reference: np.ndarray, spec: TensorSpec = Y, batch: int = 16
) -> Quality:
    batches = (
        Scored(
            {spec.name: candidate[at : at + batch]},
            {spec.name: reference[at : at + batch]},
            [None] * len(reference[at : at + batch]),
        )
        for at in range(0, len(reference), batch)
    )
    return bound(outputs=(spec,)).score(batches)


def record(value: object, name: str = "r") -> Record:
    return Record(value, None, name)  # type: ignore[arg-type]  # wrong values are the point


class TestEncode:
    def test_mappings_are_stacked(self) -> None:
        values = [{"x": np.full(3, i, np.float32), "mask": np.full(5, i)} for i in range(4)]
        feeds = bound((X, MASK)).encode([record(value) for value in values])
        assert {name: array.shape for name, array in feeds.items()} == {"x": (4, 3), "mask": (4, 5)}
        np.testing.assert_array_equal(feeds["mask"][:, 0], range(4))

    @pytest.mark.parametrize(
        "value", [np.array([1, 2, 3], np.float32), [1, 2.0, 3], {"x": [1, 2, 3]}]
    )
    def test_one_input_takes_bare_arrays_and_lists(self, value: object) -> None:
        feeds = bound().encode([record(value)])
        np.testing.assert_array_equal(feeds["x"], np.array([[1, 2, 3]], np.float32))

    def test_the_caller_owns_the_feeds(self) -> None:
        value = np.zeros(3, np.float32)
        bound().encode([record(value)])["x"][:] = 1
        assert not value.any()

    def test_strings(self) -> None:
        text = TensorSpec("text", "object", ("batch",))
        feeds = bound((text,)).encode([record("one"), record({"text": np.array("two")})])
        assert feeds["text"].dtype == object
        assert feeds["text"].tolist() == ["one", "two"]

    def test_scalars_and_fixed_tables_are_shared(self) -> None:
        inputs = (X, TensorSpec("k", "int64", ()), TensorSpec("table", "float32", (2, 2)))
        value = {"x": np.zeros(3, np.float32), "k": 7, "table": np.eye(2, dtype=np.float32)}
        feeds = bound(inputs).encode([record(value), record(value)])
        assert [feeds[name].shape for name in ("x", "k", "table")] == [(2, 3), (), (2, 2)]
        with pytest.raises(SamplesError, match=r"'b' has another 'k' than record 'a'"):
            bound(inputs).encode([record(value, "a"), record(value | {"k": 8}, "b")])

    def test_a_static_batch_takes_exactly_its_size(self) -> None:
        task = bound((TensorSpec("x", "float32", (2, 3)),))
        assert task.encode([record([0, 0, 0])] * 2)["x"].shape == (2, 3)
        with pytest.raises(SamplesError, match=r"a batch of 3 records; expected 2"):
            task.encode([record([0, 0, 0])] * 3)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"z": np.zeros(3)}, r"'r' feeds z; expected the inputs x"),
            ({}, r"feeds nothing; expected the inputs x"),
            (np.zeros(3), r"'x' float64\[3\]; expected float32\[3\] .*; convert it to float32"),
            (np.zeros(4, np.float32), r"'x' float32\[4\]; expected float32\[3\] for each record"),
            (np.zeros((1, 3), np.float32), r"float32\[1, 3\]; .*; leave out the batch dimension"),
            ([[1], [2, 3]], r"'x' a list that makes no float32 array"),
            ("text", r"'x' a str that makes no float32 array"),
        ],
    )
    def test_what_does_not_fit_is_named(self, value: object, message: str) -> None:
        with pytest.raises(SamplesError, match=message):
            bound().encode([record(value)])

    @pytest.mark.parametrize("value", [[0.5], [300], [-1]])
    def test_lists_that_would_lose_digits_are_refused(self, value: list[float]) -> None:
        with pytest.raises(SamplesError, match="makes no uint8 array"):
            bound((TensorSpec("x", "uint8", ("n", 1)),)).encode([record(value)])

    def test_one_array_for_two_inputs_is_refused(self) -> None:
        with pytest.raises(
            SamplesError, match=r"one ndarray; expected one array for each of .*mask"
        ):
            bound((X, MASK)).encode([record(np.zeros(3, np.float32))])

    def test_two_lengths_in_a_batch_are_refused(self) -> None:
        with pytest.raises(SamplesError, match=r"'b' has shape \[6\] for input 'mask' and .*\[5\]"):
            bound((MASK,)).encode([record(np.zeros(5, int), "a"), record(np.zeros(6, int), "b")])

    @pytest.mark.parametrize("value", [Path("cat.jpg"), b"\x89PNG"])
    def test_images_are_refused_with_the_flags_that_mend_it(self, value: object) -> None:
        with pytest.raises(SamplesError, match="--task image_classification --preprocess size="):
            bound().encode([record(value)])

    def test_no_records_are_refused(self) -> None:
        with pytest.raises(SamplesError, match="a batch of 0 records"):
            bound().encode([])


class TestDecode:
    def test_one_json_able_dict_per_row(self) -> None:
        outputs = {"y": np.eye(2, 4, dtype=np.float32), "kind": np.array([3, 4])}
        decoded = bound(outputs=(Y, KIND)).decode(outputs, [])
        assert json.loads(json.dumps(decoded)) == [
            {"y": [1, 0, 0, 0], "kind": 3},
            {"y": [0, 1, 0, 0], "kind": 4},
        ]

    def test_an_output_without_batch_is_whole_in_each_row(self) -> None:
        scale = TensorSpec("scale", "float32", (3,))
        decoded = bound(outputs=(Y, scale)).decode(
            {"y": np.zeros((2, 4), np.float32), "scale": np.ones(3, np.float32)}, []
        )
        assert [row["scale"] for row in decoded] == [[1, 1, 1]] * 2

    def test_rows_are_arrays(self) -> None:
        rows = bound(outputs=(Y, KIND)).rows({"y": np.eye(2, 4), "kind": np.array([3, 4])}, [])
        assert [set(row) for row in rows] == [{"y", "kind"}] * 2  # type: ignore[call-overload]
        assert all(isinstance(array, np.ndarray) for row in rows for array in row.values())  # type: ignore[attr-defined]

    def test_outputs_of_different_lengths_are_one_prediction(self) -> None:
        boxes = TensorSpec("boxes", "float32", ("found", 4))
        decoded = bound(outputs=(KIND, boxes)).decode(
            {"kind": np.zeros(2, int), "boxes": np.zeros((3, 4), np.float32)}, []
        )
        assert len(decoded) == 1
        assert np.shape(decoded[0]["boxes"]) == (3, 4)


class TestConcordance:
    def test_the_origin_has_exactly_one(self) -> None:
        quality = score(rows(), rows())
        assert (quality.value, quality.low, quality.n) == (1, 1, 64)

    def test_it_is_lins_pooled_over_the_elements(self) -> None:
        reference, candidate = rows(), rows() + 0.3 * rows(seed=1) + 5
        quality = score(candidate, reference)
        a, r = candidate.astype(float), reference.astype(float)
        covariance = ((a - a.mean(0)) * (r - r.mean(0))).mean(0).sum()
        apart = ((a.mean(0) - r.mean(0)) ** 2).sum()
        assert quality.value == pytest.approx(
            2 * covariance / (a.var(0).sum() + r.var(0).sum() + apart)
        )

    @pytest.mark.parametrize(("times", "plus"), [(2.0, 0.0), (0.5, 0.0), (1.0, 1.0)])
    def test_wrong_by_a_factor_or_an_offset_is_below_one(self, times: float, plus: float) -> None:
        """Though the correlation is 1."""
        reference = rows()
        reference -= reference.mean(0)
        expected = 2 * times / (1 + times**2 + plus**2 / reference.var(0).mean())
        quality = score(reference * times + plus, reference)
        assert quality.value == pytest.approx(expected, abs=1e-5)
        assert quality.value < 0.9

    def test_a_constant_candidate_has_zero(self) -> None:
        """Even one that is close to all outputs, where a plain cosine would say 0.9999."""
        reference = rows() + 1000
        for constant in (reference.mean(0), reference[0], np.zeros(4), np.full(4, 1e6)):
            candidate = np.broadcast_to(constant, reference.shape).astype(np.float32)
            assert score(candidate, reference).value == pytest.approx(0, abs=1e-6)

    def test_shuffled_and_negated_rows_fail(self) -> None:
        reference = rows(256)
        shuffled = reference[np.random.default_rng(5).permutation(256)]
        assert abs(score(shuffled, reference).value) < 0.15
        assert score(-reference, reference).value == pytest.approx(-1, abs=0.02)

    def test_memory_and_result_do_not_depend_on_batches(self) -> None:
        reference, candidate = rows(100), rows(100) + 0.1 * rows(100, seed=1)
        whole, small = (score(candidate, reference, batch=batch) for batch in (100, 7))
        assert small.value == pytest.approx(whole.value, abs=1e-12)
        assert small.low == pytest.approx(whole.low, abs=1e-12)

    def test_a_large_common_offset_does_not_cancel(self) -> None:
        reference = rows().astype(np.float64)
        candidate = reference + 0.01 * rows(seed=1)
        spec = TensorSpec("y", "float64", ("batch", 4))
        plain, shifted = (score(candidate + s, reference + s, spec).value for s in (0, 1e5))
        assert shifted == pytest.approx(plain, abs=1e-9)
        assert 0 < 1 - plain < 1e-4

    def test_the_lower_end_covers(self) -> None:
        """97.5 % of lower ends lie below the quality of endlessly many samples."""
        random, below = np.random.default_rng(0), 0
        truth = 1 / (1 + 0.5**2 / 2)
        for _ in range(300):
            reference = random.normal(size=(60, 5))
            noise = 0.5 * random.normal(size=(60, 5))
            spec = TensorSpec("y", "float64", ("batch", 5))
            below += score(reference + noise, reference, spec).low <= truth
        assert 0.94 <= below / 300 <= 0.999

    def test_samples_sorted_by_class_do_not_narrow_the_interval(self) -> None:
        random, below = np.random.default_rng(0), 0
        spec = TensorSpec("y", "float64", ("batch", 2))
        for _ in range(300):
            kind = np.sort(random.integers(2, size=60))[:, np.newaxis]
            reference = random.normal(size=(60, 2))
            noise = np.where(kind, 1.0, 0.1) * random.normal(size=(60, 2))
            below += score(reference + noise, reference, spec).low <= 1 / (1 + 0.505 / 2)
        assert below / 300 >= 0.93

    @pytest.mark.parametrize("wrong", [np.nan, np.inf])
    def test_nan_or_infinity_where_the_origin_is_finite_has_zero(self, wrong: float) -> None:
        candidate = rows()
        candidate[40, 2] = wrong
        quality = score(candidate, rows())
        assert (quality.value, quality.low, quality.n) == (0, 0, 64)

    def test_elements_where_the_origin_is_not_finite_do_not_count(self) -> None:
        reference, candidate = rows(), rows()
        reference[:, 1], reference[3, 2] = -np.inf, np.nan
        candidate[:, 1], candidate[3, 2] = -65504, 1
        assert score(candidate, reference).value == 1

    def test_another_shape_or_no_such_output_has_zero(self) -> None:
        assert score(rows()[:, :1], rows()).value == 0
        batch = Scored({}, {"y": rows()}, [None] * 64)
        assert bound().score([batch]).value == 0

    def test_half_precision_of_the_candidate(self) -> None:
        quality = score(rows().astype(np.float16), rows())
        assert 0.99999 < quality.low <= quality.value < 1

    def test_the_worst_output_counts_and_is_named(self) -> None:
        outputs = (Y, TensorSpec("z", "float32", ("batch", 4)))
        batch = Scored(
            {"y": rows(), "z": rows() + rows(seed=1)}, {"y": rows(), "z": rows()}, [None] * 64
        )
        quality = bound(outputs=outputs).score([batch])
        assert quality.value == pytest.approx(2 / 3, abs=0.1)
        assert "'z'" in quality.metric

    def test_a_constant_output_beside_a_varying_one_is_compared_by_closeness(self) -> None:
        outputs = (Y, TensorSpec("scale", "float32", (3,)))

        def quality(scale: float) -> Quality:
            return bound(outputs=outputs).score(
                Scored(
                    {"y": rows(8, i), "scale": np.full(3, scale, np.float32)},
                    {"y": rows(8, i), "scale": np.full(3, 2, np.float32)},
                    [None] * 8,
                )
                for i in range(10)
            )

        assert (quality(2).value, quality(2).low) == (1, 1)
        assert quality(1.5).value == pytest.approx(0.75)
        assert quality(-9).value == 0

    def test_labels_do_not_make_it_a_classifier(self) -> None:
        batch = Scored({"y": rows()}, {"y": rows()}, [0, 1] * 32)
        quality = bound().score([batch])
        assert "concordance" in quality.metric
        assert quality.origin is None


class TestTooFewSamples:
    def test_one_sample_is_refused(self) -> None:
        with pytest.raises(SamplesError, match="1 sample to score with; expected at least 2"):
            score(rows(1), rows(1))

    def test_no_sample_is_refused(self) -> None:
        with pytest.raises(SamplesError, match="0 samples to score with"):
            score(rows(0), rows(0))

    @pytest.mark.parametrize("noise", [0, 1e-9])
    def test_an_origin_that_does_not_vary_proves_nothing(self, noise: float) -> None:
        reference = (np.ones((64, 4)) + noise * rows()).astype(np.float64)
        spec = TensorSpec("y", "float64", ("batch", 4))
        quality = score(reference, reference, spec)
        assert quality.low == 0
        assert "one output for all 64 samples" in quality.metric

    def test_below_eight_samples_nothing_is_proven(self) -> None:
        assert score(rows(7), rows(7)).low == -1
        assert score(rows(8), rows(8)).low == 1

    def test_needed_and_provable(self) -> None:
        assert [bound().needed(floor) for floor in (0.5, 0.99, 1, 1.1)] == [8, 8, None, None]
        assert bound().provable(8) == pytest.approx(1)
        assert bound().provable(7) == pytest.approx(0, abs=1e-9)
        assert bound(outputs=(KIND,)).needed(0.9) == 35

    def test_samples_of_several_sizes_are_refused(self) -> None:
        spec = TensorSpec("y", "float32", ("batch", "length"))
        batches = [
            Scored({"y": y}, {"y": y}, [None] * 4) for y in (rows(4, width=5), rows(4, width=6))
        ]
        with pytest.raises(SamplesError, match=r"'y' has shape \[5\] for one sample and \[6\]"):
            bound(outputs=(spec,)).score(batches)


class TestAgreement:
    @pytest.mark.parametrize(
        "reference",
        [np.arange(64) % 5, np.arange(64) % 2 == 0, np.array(list("abcd") * 16, dtype=object)],
    )
    def test_integers_booleans_and_strings(self, reference: np.ndarray) -> None:
        spec = TensorSpec("kind", reference.dtype.name, ("batch",))
        assert score(reference, reference, spec).value == 1
        candidate = reference.copy()
        candidate[0] = reference[1]
        quality = score(candidate, reference, spec)
        assert quality.value == pytest.approx(63 / 64)
        assert 0.9 < quality.low < quality.value

    def test_the_share_of_equal_elements(self) -> None:
        spec = TensorSpec("mask", "int64", ("batch", 2))
        reference = np.stack([np.arange(10), np.arange(10)], axis=1)
        candidate = reference * [1, -1]
        quality = score(candidate, reference, spec)
        assert (quality.value, quality.n) == (0.55, 10)

    def test_another_shape_does_not_agree(self) -> None:
        spec = TensorSpec("mask", "int64", ("batch", "length"))
        reference = np.arange(20).reshape(10, 2)
        assert score(reference[:, :1], reference, spec).value == 0

    def test_a_constant_origin_proves_nothing(self) -> None:
        assert score(np.zeros(9, int), np.zeros(9, int), KIND).low == 0


def test_fits_only_tensors() -> None:
    signature = Signature((X,), (Y,))
    assert Tensor().fits(signature, "tensors")
    assert not Tensor().fits(signature, "images")


def test_scored_outputs_may_be_any_mapping() -> None:
    class Lazy(Mapping[str, np.ndarray]):
        def __getitem__(self, name: str) -> np.ndarray:
            if name != "y":
                raise KeyError(name)
            return rows()

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(["y"])

        def __len__(self) -> int:
            return 1

    assert bound().score([Scored(Lazy(), Lazy(), [None] * 64)]).value == 1
