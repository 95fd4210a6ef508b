"""XGBoost's models become proven ONNX, or one clear line."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost

from onnxpress import api
from onnxpress.errors import InputError, MissingExtra, OnnxpressError, SourceError
from onnxpress.source import ExportOptions, OpenOptions, open_source
from onnxpress.sources.xgboost import XGBoost
from onnxpress.trees import xgboost as reader
from onnxpress.trees.forest import Split
from onnxpress.verbs.convert import Converted
from zoo.tabular import DIABETES, WINE, holes, outputs

X, Y = WINE
OBJECTIVES = [
    ("binary:logistic", (Y > 0) * 1.0, {}),
    ("binary:logistic", (Y > 0) * 1.0, {"base_score": 0.1}),
    ("binary:logitraw", (Y > 0) * 1.0, {}),
    ("multi:softprob", Y, {"num_class": 3}),
    ("multi:softmax", Y, {"num_class": 3}),
    ("reg:squarederror", Y + 5.0, {"base_score": 7.5}),
    ("reg:squarederror", Y + 5.0, {"booster": "dart", "rate_drop": 0.5}),
    ("reg:squarederror", Y + 5.0, {"num_parallel_tree": 3, "subsample": 0.7}),
    ("reg:logistic", Y / 2, {}),
    ("reg:tweedie", Y + 5.0, {}),
    ("reg:gamma", Y + 5.0, {}),
    ("count:poisson", Y + 5.0, {"base_score": 3}),
    ("reg:quantileerror", Y + 5.0, {"quantile_alpha": [0.2, 0.7]}),
    ("rank:ndcg", Y, {}),
    ("rank:pairwise", Y, {"base_score": 2}),
]


def proven(model: object, **options: object) -> Converted:
    result = api.convert(model, **options)  # type: ignore[arg-type]  # shorthand
    assert result.verified is not None
    assert result.verified.ok, str(result.verified.first_mismatch)
    return result


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(("objective", "target", "more"), OBJECTIVES)
def test_objectives(objective: str, target: np.ndarray, more: dict, missing: bool) -> None:
    x = holes(X) if missing else X
    data = xgboost.DMatrix(x, target)
    if objective.startswith("rank"):
        data.set_group([100, 78])
    rng = np.random.default_rng(len(objective) + missing)
    drawn = {"max_depth": int(rng.integers(2, 7)), "seed": 1}
    rounds = int(rng.integers(3, 12))
    booster = xgboost.train({"objective": objective, **drawn, **more}, data, rounds)
    result = proven(booster)
    classifier = objective in ("binary:logistic", "multi:softprob", "multi:softmax")
    names = [spec.name for spec in result.model.signature.outputs]
    assert names == (["label", "probabilities"] if classifier else ["prediction"])
    assert result.verified is not None
    assert len(result.verified.cases) == 5, "random batches, and rows beside thresholds"


@pytest.mark.parametrize("categories", [3, 40, 200])
@pytest.mark.parametrize("onehot", [4, 300])
def test_categories(categories: int, onehot: int) -> None:
    rng = np.random.default_rng(categories)
    x, y = DIABETES[0].copy(), DIABETES[1]
    x[:, 0] = rng.integers(0, categories, len(x))
    data = xgboost.DMatrix(
        x, y + 40 * (x[:, 0] % 3), feature_types=["c"] + ["q"] * 9, enable_categorical=True
    )
    proven(xgboost.train({"max_depth": 5, "max_cat_to_onehot": onehot}, data, 6))


@pytest.mark.parametrize("kind", [str, int])
def test_categories_of_a_table(kind: type, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    words = np.array(["z", "y", "x", "w"]) if kind is str else np.array([8, 6, 7, 5])
    frame = pd.DataFrame({"a": rng.normal(size=400), "c": pd.Categorical(rng.choice(words, 400))})
    label = ((frame.a + rng.normal(size=400) > 0) ^ frame.c.isin(words[:2])).astype(int)
    model = xgboost.XGBClassifier(
        n_estimators=40, max_depth=3, enable_categorical=True, early_stopping_rounds=2
    ).fit(frame[:200], label[:200], eval_set=[(frame[200:], label[200:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    codes = np.c_[frame.a, frame.c.cat.codes].astype(np.float32)
    labels, numbers = outputs(proven(model).model, codes)
    assert (labels == model.predict(frame)).all()
    assert np.abs(numbers - model.predict_proba(frame)).max() < 1e-6
    with open_source(model) as origin, origin.session() as session:
        asked = session.run({"X": codes})
    assert (asked["label"] == model.predict(frame)).all()
    assert (asked["probabilities"] == model.predict_proba(frame)).all()
    joblib.dump(model, tmp_path / "m.joblib")
    proven(f"sklearn:{tmp_path / 'm.joblib'}", trust=True)


def test_large_numbers_are_float32_in_the_original_too() -> None:
    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(size=600), 1.7e9 + rng.integers(0, 1000, 600)]
    model = xgboost.XGBClassifier(n_estimators=10).fit(x, (x[:, 1] > 1.7e9 + 500) * 1)
    labels, numbers = outputs(proven(model).model, x)
    assert (labels == model.predict(x)).all()
    assert np.abs(numbers - model.predict_proba(x)).max() < 1e-6


def test_what_xgboost_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = xgboost.XGBRegressor(n_estimators=2).fit(X, Y)

    def refuses(*_: object, **__: object) -> None:
        raise xgboost.core.XGBoostError("[16:00:53] /src/data.h:29: Invalid input.\nStack trace:")

    monkeypatch.setattr(xgboost.XGBRegressor, "predict", refuses)
    with open_source(model) as origin, origin.session() as session:
        with pytest.raises(SourceError, match=r"to predict \(Invalid input\.\)") as caught:
            session.run({"X": X.astype(np.float32)})
        assert "\n" not in str(caught.value)


def test_wrappers_predict_to_the_best_round_and_so_do_their_files(tmp_path: Path) -> None:
    model = xgboost.XGBClassifier(n_estimators=60, max_depth=3, early_stopping_rounds=2)
    model.fit(X[::2], Y[::2], eval_set=[(X[1::2], Y[1::2])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    short = proven(model).model.size_bytes
    for name in ("m.ubj", "m.json"):
        model.save_model(tmp_path / name)
        assert abs(proven(str(tmp_path / name)).model.size_bytes - short) < 100
    assert proven(model.get_booster()).model.size_bytes > short + 100


def test_a_value_that_means_missing() -> None:
    model = xgboost.XGBRegressor(n_estimators=4, missing=-1.0)
    proven(model.fit(np.where(np.isnan(holes(X)), -1, X), Y))
    proven(xgboost.XGBRanker(n_estimators=4).fit(X, Y, qid=np.sort(Y)))


def test_a_shifted_threshold_and_a_lost_base_score_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = xgboost.XGBRegressor(n_estimators=3, max_depth=3).fit(*DIABETES)
    real = reader.forest_of_wrapper

    def shifted(model: object) -> object:
        forest = real(model)
        first = forest.trees[0][0]
        assert isinstance(first, Split)
        value = float(np.nextafter(np.float32(first.tests[0].value), np.float32(np.inf)))
        test = dataclasses.replace(first.tests[0], value=value)
        root = dataclasses.replace(first, tests=(test,))
        trees = ((root, *forest.trees[0][1:]), *forest.trees[1:])
        return dataclasses.replace(forest, trees=trees)

    def without_base(model: object) -> object:
        return dataclasses.replace(real(model), base=(0.0,))

    for wrong in (shifted, without_base):
        monkeypatch.setattr("onnxpress.sources._xgboost.origin.forest_of_wrapper", wrong)
        result = api.convert(model)
        assert result.verified is not None
        assert not result.verified.ok


def test_options() -> None:
    with open_source(xgboost.XGBClassifier(n_estimators=3).fit(X, Y)) as origin:
        static = origin.export(ExportOptions(static=True, opset=15)).model
        assert static.signature.inputs[0].shape == (1, 13)
        assert static.ir.opset_imports[""] == 15
        four = origin.export(ExportOptions(shapes={"X": (4, 13)})).model
        assert four.signature.outputs[1].shape == (4, 3)
        for wrong in (
            ExportOptions(shapes={"X": (4, 12)}),
            ExportOptions(shapes={"Y": (4, 13)}),
            ExportOptions(exporter="dynamo"),
        ):
            with pytest.raises(OnnxpressError, match="--") as caught:
                origin.export(wrong)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
def test_several_labels_at_once_are_refused(tmp_path: Path, strategy: str) -> None:
    labels = np.stack([Y > 0, Y > 1], 1).astype(int)
    model = xgboost.XGBClassifier(n_estimators=2, multi_strategy=strategy).fit(X, labels)
    model.save_model(tmp_path / "m.ubj")
    for form in (model, model.get_booster(), str(tmp_path / "m.ubj")):
        with pytest.raises(SourceError, match="2 labels at once; expected one label") as caught:
            open_source(form)
        assert "\n" not in str(caught.value)
    numbers = xgboost.XGBRegressor(n_estimators=2).fit(X, labels)  # of which several are fine
    assert proven(numbers).model.signature.outputs[0].shape == ("batch", 2)


def test_what_is_no_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = xgboost.XGBClassifier(n_estimators=3).fit(X, Y)
    model.save_model(tmp_path / "m.ubj")
    whole = (tmp_path / "m.ubj").read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 9):
        (tmp_path / "cut.ubj").write_bytes(whole[:cut])
        with pytest.raises(OnnxpressError, match="cannot be read as an XGBoost model") as caught:
            open_source(str(tmp_path / "cut.ubj"))
        assert "\n" not in str(caught.value)
    with pytest.raises(OnnxpressError, match="is not trained"):
        open_source(xgboost.XGBClassifier())
    linear = xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(X, Y), 2)
    with pytest.raises(OnnxpressError, match="expected gbtree or dart"):
        open_source(linear)
    with pytest.raises(InputError, match=f"^{tmp_path} is no file; expected"):
        open_source(f"xgboost:{tmp_path}")
    with pytest.raises(InputError, match="--checkpoint"):
        XGBoost().open(str(tmp_path / "m.ubj"), OpenOptions(checkpoint=tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"onnxpress\[xgboost\]"):
        XGBoost().open(str(tmp_path / "m.ubj"), OpenOptions())


@pytest.mark.parametrize("kind", ["wrapper", "file"])
def test_columns_are_known_by_name(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=[f"c {index}" for index in range(X.shape[1])])
    model = xgboost.XGBClassifier(n_estimators=2).fit(frame, Y)
    model.save_model(tmp_path / "m.ubj")
    with open_source(model if kind == "wrapper" else str(tmp_path / "m.ubj")) as origin:
        assert origin.processing is not None
        assert origin.processing.columns == tuple(frame.columns)
    with open_source(xgboost.XGBClassifier(n_estimators=2).fit(X, Y)) as origin:
        assert origin.processing is None
