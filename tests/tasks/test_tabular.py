"""Tables: columns by name, classes and numbers, and their quality beside the origin's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import Processing
from onnxpress.samples import Label, Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Scored, choose
from onnxpress.tasks.tabular import Tabular

MATRIX = (TensorSpec("X", "float32", ("batch", 2)),)
MIXED = (
    TensorSpec("age", "float32", ("batch", 1)),
    TensorSpec("town", "object", ("batch", 1)),
    TensorSpec("rooms", "int64", ("batch", 1)),
)
CLASSES = (
    TensorSpec("label", "object", ("batch",)),
    TensorSpec("probabilities", "float32", ("batch", 2)),
)
NUMBERS = (TensorSpec("prediction", "float32", ("batch", 1)),)


def bound(
    outputs: tuple[TensorSpec, ...] = CLASSES,
    inputs: tuple[TensorSpec, ...] = MATRIX,
    columns: tuple[str, ...] = (),
) -> Bound:
    return Tabular().bind(Signature(inputs, outputs), Processing(columns=columns))


def test_named_columns_meet_named_inputs() -> None:
    rows = [
        {"town": "Bonn", "rooms": 3.0, "age": 41, "unused": "x"},
        {"town": 7, "rooms": 2, "age": "", "unused": "y"},
    ]
    feeds = bound(inputs=MIXED).encode([Record(row) for row in rows])
    assert feeds["town"].tolist() == [["Bonn"], ["7"]]
    assert feeds["rooms"].tolist() == [[3], [2]]
    assert feeds["rooms"].dtype == np.int64
    assert feeds["age"][0] == 41
    assert np.isnan(feeds["age"][1])
    with pytest.raises(SamplesError, match=r"'line 3' has no column 'town' but rooms, age"):
        bound(inputs=MIXED).encode([Record({"rooms": 1, "age": 2}, None, "line 3")])
    with pytest.raises(SamplesError, match="rooms"):
        bound(inputs=MIXED).encode([Record({"rooms": 1.5, "age": 2, "town": "Bonn"})])


def test_a_matrix_takes_the_columns_that_it_was_pressed_with() -> None:
    row = {"a": 1, "answer": "yes", "b": 2}
    assert bound(columns=("b", "a")).encode([Record(row)])["X"].tolist() == [[2, 1]]
    assert bound().encode([Record({"b": 5, "a": 6})])["X"].tolist() == [[5, 6]]
    assert bound().encode([Record(np.array([3, 4], np.float32))])["X"].tolist() == [[3, 4]]
    spaced = Record({"a": 1, "petal width": 2, "more": 3})
    assert bound(columns=("petal_width", "a")).encode([spaced])["X"].tolist() == [[2, 1]]
    with pytest.raises(SamplesError, match="has no column 'a'"):
        bound(columns=("a",)).encode([Record({0: 1, 1: 2})])
    with pytest.raises(SamplesError, match="has 'yes' in column 'answer'"):
        bound(columns=("a", "answer")).encode([Record(row)])


def scored(
    mine: np.ndarray, theirs: np.ndarray, labels: list[Label | None], name: str = "label"
) -> Scored:
    return Scored({name: mine}, {name: theirs}, labels)


def test_accuracy_is_relative_to_the_origins() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    wrong = [np.where(np.arange(200) % every == 0, 1 - truth, truth) for every in (5, 10)]
    mine, theirs = (np.array(["no", "yes"], object)[values] for values in wrong)
    labels: list[Label | None] = [("no", "yes")[value] for value in truth]
    quality = bound().score([scored(mine, theirs, labels)])
    assert quality.value == pytest.approx(0.8 / 0.9)
    assert (quality.origin, quality.candidate) == (0.9, 0.8)
    agreement = bound().score([scored(mine, theirs, [None] * 200)])
    assert agreement.value == pytest.approx(0.9)
    assert agreement.metric == "top-1 agreement"


@pytest.mark.parametrize("kind", [int, float, str])
def test_labels_of_any_spelling_are_the_models_integers(kind: type) -> None:
    truth = np.arange(90) % 3
    quality = bound().score([scored(truth, truth, [kind(value) for value in truth])])
    assert quality.origin == 1


def test_a_row_of_nan_probabilities_has_no_class() -> None:
    label = np.arange(40) % 2
    good, bad = np.full((40, 2), 0.5), np.full((40, 2), np.nan)
    outputs = [{"label": label, "probabilities": rows} for rows in (bad, good)]
    assert bound().score([Scored(outputs[0], outputs[1], [None] * 40)]).value == 0


def test_determination_is_relative_to_the_origins() -> None:
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    truth = 1000 + rng.normal(size=300)
    theirs, mine = (truth + s * rng.normal(size=300) for s in (0.3, 0.5))
    batches = [
        scored(
            mine[at : at + 70, None],
            theirs[at : at + 70, None],
            truth[at : at + 70].tolist(),
            "prediction",
        )
        for at in range(0, 300, 70)
    ]
    quality = bound(NUMBERS).score(batches)
    assert quality.origin == pytest.approx(r2_score(truth, theirs))
    assert quality.candidate == pytest.approx(r2_score(truth, mine))
    assert quality.value == pytest.approx(r2_score(truth, mine) / r2_score(truth, theirs))
    assert quality.low < quality.value
    assert quality.metric == "R² / origin's R²"


def test_a_useless_origin_is_judged_by_agreement() -> None:
    rng = np.random.default_rng(0)
    values, truth = rng.normal(size=(50, 1)), rng.normal(size=50)
    quality = bound(NUMBERS).score([scored(values, values, truth.tolist(), "prediction")])
    assert quality.value == 1
    assert "the origin's R² is not above 0" in quality.metric
    broken = np.full_like(values, np.nan)
    told = bound(NUMBERS).score([scored(broken, truth[:, None], truth.tolist(), "prediction")])
    assert told.value == 0


def test_classes_and_numbers_are_told() -> None:
    outputs = {"label": np.array(["no"], object), "probabilities": np.array([[0.75, 0.25]])}
    [told] = bound().decode(outputs, [])
    assert told == {"class": "no", "score": 0.75, "probabilities": [0.75, 0.25]}
    assert bound(NUMBERS).decode({"prediction": np.array([[2.0]])}, []) == [{"prediction": 2.0}]


def test_the_task_follows_from_the_names(tmp_path: Path) -> None:
    assert choose(Signature(MIXED, CLASSES), "rows") == "tabular"
    assert (
        choose(Signature(MATRIX, (TensorSpec("y", "float32", ("batch", 2)),)), "rows") == "tensor"
    )
    with pytest.raises(InputError, match="an output label"):
        Tabular().bind(Signature(MATRIX, (TensorSpec("y", "float32", ("batch", 2)),)), None)
