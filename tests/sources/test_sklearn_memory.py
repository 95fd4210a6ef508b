"""Models that keep rows of their training are proven on these, and between and beside them."""

from __future__ import annotations

import numpy as np
import pytest
from skl2onnx.operator_converters import nearest_neighbours
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import KNNImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from sklearn.svm import SVC

from onnxpress import api
from onnxpress.source import open_source
from onnxpress.sources._sklearn import converters
from onnxpress.sources._sklearn.memory import remembered
from zoo.tabular import holes, outputs

X, Y = load_iris(return_X_y=True)
FOREST = RandomForestClassifier(5, random_state=0)
BY_DISTANCE = KNeighborsClassifier(3, weights="distance")
ENSEMBLE = StackingClassifier([("a", FOREST), ("b", BY_DISTANCE)], cv=3)


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(3),
        BY_DISTANCE,
        make_pipeline(StandardScaler(), BY_DISTANCE),
        KNeighborsRegressor(3, weights="distance", metric="manhattan"),
        SVC(),
        GaussianNB(),
        KMeans(3, n_init=2, random_state=0),
        ENSEMBLE,
        make_pipeline(KBinsDiscretizer(4, encode="onehot-dense"), LogisticRegression()),
        LogisticRegression(max_iter=500),
    ],
    ids=str,
)
def test_rows_of_the_training_are_answered_alike(model: object) -> None:
    model.fit(X, Y)  # type: ignore[attr-defined]  # an estimator
    converted = api.convert(model)
    assert converted.verified is not None
    assert converted.verified.ok, str(converted.verified.first_mismatch)
    first, *_ = outputs(converted.model, X)
    expected = model.predict(X)  # type: ignore[attr-defined]
    assert np.allclose(first.reshape(expected.shape), expected, atol=1e-4)
    # The proof has seen every class that the model knows.
    with open_source(model) as origin, origin.session() as session:
        seen = [session.run(feeds) for feeds in origin.probes(converted.model.signature)]
    if "label" in seen[0]:
        assert len(np.unique(np.concatenate([one["label"] for one in seen]))) == 3


@pytest.mark.parametrize("model", [BY_DISTANCE, ENSEMBLE, make_pipeline(BY_DISTANCE)], ids=str)
def test_wrong_weights_are_found(model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """skl2onnx's own writer lets every neighbour weigh the same."""
    theirs = nearest_neighbours.convert_nearest_neighbors_classifier
    monkeypatch.setitem(converters.OURS, "SklearnKNeighborsClassifier", theirs)
    converted = api.convert(model.fit(X, Y))  # type: ignore[attr-defined]  # an estimator
    assert converted.verified is not None
    assert not converted.verified.ok


@pytest.mark.parametrize("then", [(), (LogisticRegression(max_iter=500),)], ids=["alone", "before"])
def test_skl2onnx_fills_gaps_wrongly_and_that_is_found(then: tuple[object, ...]) -> None:
    """Two neighbours' values: skl2onnx 1.20 takes them from others."""
    model = make_pipeline(KNNImputer(n_neighbors=2), *then).fit(holes(X, share=0.2), Y)
    assert np.isnan(remembered(model, 4)).any()
    converted = api.convert(model)
    assert converted.verified is not None
    assert not converted.verified.ok


def test_missing_values_in_an_isolation_forest() -> None:
    model = IsolationForest(n_estimators=9, random_state=0).fit(X)
    converted = api.convert(model)
    assert converted.verified is not None
    assert converted.verified.ok, str(converted.verified.first_mismatch)
    rows = holes(X, share=0.3).astype(np.float32)
    label, *_ = outputs(converted.model, rows)
    assert (label == model.predict(rows)).all()


def test_codes_alone_are_codes() -> None:
    codes = np.round(X).astype(int)
    converted = api.convert(CategoricalNB().fit(codes, Y))
    assert converted.verified is not None
    assert converted.verified.ok, str(converted.verified.first_mismatch)
    assert converted.model.signature.inputs[0].dtype == "int64"


def test_rows_are_led_back_through_scalers_and_searches() -> None:
    model = make_pipeline(StandardScaler(), make_pipeline(BY_DISTANCE)).fit(X, Y)
    rows = remembered(model, 4)
    assert np.abs(rows[:, None] - X[None]).max(axis=2).min(axis=1).max() < 1e-9
    assert len(remembered(StandardScaler(), 4)) == 0
    search = GridSearchCV(model, {"pipeline": [make_pipeline(BY_DISTANCE)]}, cv=2).fit(X, Y)
    assert np.array_equal(remembered(search, 4), rows)
    several = VotingClassifier([("a", model), ("b", GaussianNB())]).fit(X, Y)
    assert len(remembered(several, 4)) == len(rows) + 3


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
def test_clusters_of_single_precision(kind: type) -> None:
    rows = X.astype(np.float32)
    model = make_pipeline(StandardScaler(), kind(3, n_init=2, random_state=0)).fit(rows)
    converted = api.convert(model)
    assert converted.verified is not None
    assert converted.verified.ok, str(converted.verified.first_mismatch)
    assert (outputs(converted.model, rows)[0] == model.predict(rows)).all()


def test_a_row_that_rounding_decides_is_no_proof() -> None:
    """Neighbours equally far: the original itself takes another for another rounding."""
    x = np.array([[0.0], [2.0], [4.0], [6.0]])
    with open_source(KNeighborsClassifier(1).fit(x, [0, 1, 2, 3])) as origin:
        kept = origin._settled(np.array([[1.0], [0.4], [3.0], [5.5]], np.float32))
    assert kept.tolist() == [[np.float32(0.4)], [5.5]]
