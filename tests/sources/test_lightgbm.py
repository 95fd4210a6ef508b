"""LightGBM's models become proven ONNX, or one clear line."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest

from onnxpress import api
from onnxpress.errors import InputError, MissingExtra, OnnxpressError, SourceError
from onnxpress.source import OpenOptions, open_source
from onnxpress.sources.lightgbm import LightGBM
from onnxpress.verbs.convert import Converted
from zoo.tabular import DIABETES, WINE, holes, outputs

X, Y = WINE
QUIET = {"verbosity": -1, "num_threads": 2, "seed": 1, "min_data_in_leaf": 3}
OBJECTIVES = [
    ("binary", Y > 0, {"sigmoid": 2.0}),
    ("multiclass", Y, {"num_class": 3}),
    ("multiclassova", Y, {"num_class": 3}),
    ("regression", Y + 5.0, {}),
    ("regression", Y + 5.0, {"reg_sqrt": True}),
    ("regression", Y + 5.0, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}),
    ("regression", Y + 5.0, {"boosting": "dart"}),
    ("poisson", Y + 1.0, {}),
    ("tweedie", Y + 1.0, {}),
    ("cross_entropy", Y / 2, {}),
    ("cross_entropy_lambda", Y / 2, {}),
    ("lambdarank", Y, {}),
]
MISSING = [
    (X, {}),
    (holes(X), {}),
    (X - X.mean(0), {"use_missing": False}),
    (np.nan_to_num(holes(X - X.mean(0))), {"zero_as_missing": True}),
]


def proven(model: object) -> Converted:
    result = api.convert(model)
    assert result.verified is not None
    assert result.verified.ok, str(result.verified.first_mismatch)
    return result


@pytest.mark.parametrize("missing", range(len(MISSING)))
@pytest.mark.parametrize(("objective", "target", "more"), OBJECTIVES)
def test_objectives(objective: str, target: np.ndarray, more: dict, missing: int) -> None:
    x, treatment = MISSING[missing]
    rng = np.random.default_rng(missing + len(objective))
    drawn = {"num_leaves": int(rng.integers(3, 20)), **treatment}
    group = [100, 78] if objective == "lambdarank" else None
    data = lightgbm.Dataset(x, target, params=QUIET | treatment, group=group)
    proven(lightgbm.train({**QUIET, "objective": objective, **drawn, **more}, data, 6))


@pytest.mark.parametrize("categories", [3, 40, 200])
def test_categories(categories: int) -> None:
    rng = np.random.default_rng(categories)
    x, y = DIABETES[0].copy(), DIABETES[1]
    x[:, 0] = rng.integers(0, categories, len(x))
    params = {**QUIET, "min_data_per_group": 1, "cat_smooth": 1}
    data = lightgbm.Dataset(
        holes(x), y + 40 * (x[:, 0] % 3), categorical_feature=[0], params=params
    )
    proven(lightgbm.train(params, data, 6))


@pytest.mark.parametrize("kind", ["LGBMRegressor", "LGBMClassifier", "Booster"])
def test_tables_with_two_decimals(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    x, rows = (holes(rng.normal(size=(3000, 3)).round(2), seed) for seed in (1, 2))
    y = 3 * np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2
    if kind == "LGBMClassifier":
        y = (y > 1) + (y > 2) * 1
    cls = lightgbm.LGBMRegressor if kind == "Booster" else getattr(lightgbm, kind)
    model = cls(n_estimators=20, verbosity=-1).fit(x, y)
    ask = model.predict_proba if kind == "LGBMClassifier" else model.predict
    if kind == "Booster":
        model = model.booster_
    *_, numbers = outputs(proven(model).model, rows)
    assert np.abs(numbers - ask(rows).reshape(numbers.shape)).max() < 1e-5
    with open_source(model) as origin, origin.session() as session:
        asked = list(session.run({"X": rows.astype(np.float32)}).values())[-1]
    assert np.abs(asked - ask(rows).reshape(numbers.shape)).max() < 1e-5


def test_neighbouring_float32_numbers_stay_parted() -> None:
    low = np.float32(0.1)
    x = np.repeat([low, np.nextafter(low, np.float32(1))], 50).astype(np.float32)[:, None]
    model = lightgbm.LGBMRegressor(n_estimators=1, verbosity=-1).fit(x, np.arange(100) >= 50)
    (numbers,) = outputs(proven(model).model, x)
    assert len(set(numbers[:, 0])) == 2
    assert np.abs(numbers[:, 0] - model.predict(x)).max() < 1e-6


@pytest.mark.parametrize("named", [True, False])
def test_thresholds_that_float32_cannot_tell_apart_are_refused(named: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(size=600), 1.7e9 + rng.integers(0, 1000, 600)]
    y = (x[:, 1] > 1.7e9 + 500) * 1
    table = pd.DataFrame(x, columns=["x", "ts"]) if named else x
    model = lightgbm.LGBMClassifier(n_estimators=10, verbosity=-1).fit(table, y)
    model.booster_.save_model(tmp_path / "m.txt")
    name = "column 'ts'" if named else "feature 1 of the model"
    for form in (model, model.booster_, str(tmp_path / "m.txt")):
        with pytest.raises(SourceError, match=f"^{name} has numbers .*offset from it") as caught:
            api.convert(form)
        assert "\n" not in str(caught.value)
    x[:, 1] -= 1.7e9
    result = proven(model.fit(x, y))
    assert (outputs(result.model, x)[0] == model.predict(x)).all()


def test_wrappers_and_files(tmp_path: Path) -> None:
    model = lightgbm.LGBMClassifier(n_estimators=4, verbosity=-1)
    labels = np.array(["red", "white", "rosé"])[Y]
    result = proven(model.fit(X, labels))
    assert result.model.signature.outputs[0].dtype == "object"
    model.booster_.save_model(tmp_path / "m.txt")
    assert proven(str(tmp_path / "m.txt")).model.signature.outputs[0].dtype == "int64"
    proven(lightgbm.LGBMRegressor(n_estimators=4, verbosity=-1).fit(*DIABETES))
    proven(lightgbm.LGBMRanker(n_estimators=4, verbosity=-1).fit(X, Y, group=[100, 78]))


def test_a_lost_missing_direction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxpress.trees.forest import Forest, Split
    from onnxpress.trees.lightgbm import forest_of_wrapper

    def forgetful(model: object) -> Forest:
        forest = forest_of_wrapper(model)
        trees = [
            [
                dataclasses.replace(
                    node, tests=tuple(dataclasses.replace(t, missing=False) for t in node.tests)
                )
                if isinstance(node, Split)
                else node
                for node in tree
            ]
            for tree in forest.trees
        ]
        return dataclasses.replace(forest, trees=tuple(trees))

    monkeypatch.setattr("onnxpress.sources._lightgbm.origin.forest_of_wrapper", forgetful)
    result = api.convert(lightgbm.LGBMRegressor(n_estimators=4, verbosity=-1).fit(holes(X), Y))
    assert result.verified is not None
    assert not result.verified.ok


def test_what_is_no_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linear = lightgbm.train({**QUIET, "linear_tree": True}, lightgbm.Dataset(*DIABETES), 3)
    with pytest.raises(OnnxpressError, match="linear trees; expected constant leaves"):
        open_source(linear)
    with pytest.raises(OnnxpressError, match="is not trained"):
        open_source(lightgbm.LGBMClassifier())
    booster = lightgbm.train(QUIET, lightgbm.Dataset(X, Y), 3)
    whole = booster.model_to_string()
    for cut in (0, 10, len(whole) // 3):
        (tmp_path / "cut.txt").write_text(whole[:cut], encoding="utf-8")
        with pytest.raises(OnnxpressError, match="or a damaged one") as caught:
            LightGBM().open(str(tmp_path / "cut.txt"), OpenOptions())
        assert "\n" not in str(caught.value)
    (tmp_path / "notes.txt").write_text("tree of notes", encoding="utf-8")
    assert not LightGBM().accepts(tmp_path / "notes.txt")
    for there in ("/dev/null", str(tmp_path)):
        with pytest.raises(InputError, match=f"^{there} is no file; expected"):
            open_source(f"lightgbm:{there}")
    linear.save_model(tmp_path / "linear.txt")
    with pytest.raises(OnnxpressError, match="linear trees; expected constant leaves"):
        open_source(str(tmp_path / "linear.txt"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"onnxpress\[lightgbm\]"):
        LightGBM().open("m.txt", OpenOptions())


DAMAGE = [  # LightGBM itself reads past an array's end, or ends the process, on each of them
    ("num_leaves=5", "num_leaves=7"),
    ("num_leaves=5", "num_leaves=52"),
    ("num_leaves=5", "num_leaves=x"),
    (r"left_child=\S+", "left_child=9"),
    (r"left_child=\S+", "left_child=0"),
    ("right_child=", "right_child=1 "),
    ("split_feature=", "split_feature=9"),
    ("split_feature=", "split_featureX"),
    ("leaf_value=", "leaf_value=1 "),
    ("threshold=", "threshold=x"),
    ("decision_type=", "decision_types"),
    ("cat_boundaries=0", "cat_boundaries=9"),
    ("num_cat=1", "num_cat=0"),
    ("num_tree_per_iteration=3", "num_tree_per_iteration=0"),
    ("num_class=3", "num_class=9"),
    ("objective=multiclass num_class:3", "objective=multiclass num_class:9"),
    ("max_feature_idx=3", "max_feature_idx=1"),
    (r"feature_infos=\[", "feature_infos=("),
    ("end of trees", "end of tree"),
]


@pytest.mark.parametrize(("part", "instead"), DAMAGE)
@pytest.mark.parametrize("sizes", [True, False])
def test_a_damaged_file_is_one_line(part: str, instead: str, sizes: bool, tmp_path: Path) -> None:
    x = np.c_[X[:, :3], np.arange(len(X)) % 30]
    target = (np.arange(len(X)) % 30 // 4 + (X[:, 0] > 13)) % 3
    params = {**QUIET, "objective": "multiclass", "num_class": 3, "num_leaves": 5}
    params |= {"min_data_per_group": 1, "cat_smooth": 1, "max_cat_to_onehot": 1}
    data = lightgbm.Dataset(x, target, categorical_feature=[3], params=params)
    whole = lightgbm.train(params, data, 2).model_to_string()
    if not sizes:  # so that the trees themselves are looked at
        whole = "\n".join(line for line in whole.split("\n") if "tree_sizes" not in line)
    path = tmp_path / "m.txt"
    path.write_text(whole, encoding="utf-8")
    open_source(f"lightgbm:{path}").close()
    damaged, count = re.subn(part, instead, whole, count=1)
    assert count == 1
    path.write_text(damaged, encoding="utf-8")
    with pytest.raises(SourceError, match="or a damaged one") as caught:
        open_source(f"lightgbm:{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["wrapper", "file"])
def test_columns_are_known_by_name(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=[f"c {index}" for index in range(X.shape[1])])
    model = lightgbm.LGBMClassifier(n_estimators=2, verbosity=-1).fit(frame, Y)
    model.booster_.save_model(tmp_path / "m.txt")
    with open_source(model if kind == "wrapper" else str(tmp_path / "m.txt")) as origin:
        assert origin.processing is not None
        assert origin.processing.columns == tuple(f"c_{index}" for index in range(X.shape[1]))
    with open_source(lightgbm.LGBMClassifier(n_estimators=2, verbosity=-1).fit(X, Y)) as origin:
        assert origin.processing is None
