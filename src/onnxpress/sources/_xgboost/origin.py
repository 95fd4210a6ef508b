"""XGBoost's models as origins."""

from __future__ import annotations

import contextlib
import copy
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from onnxpress.errors import InputError, SourceError
from onnxpress.trees.forest import Forest
from onnxpress.trees.origin import Classify, ForestOrigin, Predict
from onnxpress.trees.xgboost import forest_of, forest_of_wrapper

MADE_BY = f"XGBoost {xgboost.__version__}"


def open_origin(ref: object) -> ForestOrigin:
    """Raises ``InputError`` for a missing file, ``SourceError`` for one that is no model."""
    if isinstance(ref, xgboost.XGBModel):
        return _of_wrapper(ref)
    booster = ref if isinstance(ref, xgboost.Booster) else _load(Path(str(ref)))
    raw = bytes(booster.save_raw("ubj"))
    # The file of an estimator predicts as the estimator does: to the best round.
    best = booster.attr("best_iteration") if booster.attr("scikit_learn") else None
    rounds = None if best is None else int(best) + 1
    forest = forest_of(booster.save_raw("json"), iterations=rounds)
    predict = _of_booster(booster, forest, rounds)
    return ForestOrigin("xgboost", MADE_BY, forest, predict, raw, booster.feature_names or ())


def _load(path: Path) -> xgboost.Booster:
    if not path.is_file():
        wrong = "is no file" if path.exists() else "does not exist"
        raise InputError(f"{path} {wrong}", "a file saved by XGBoost: .ubj or .json")
    booster = xgboost.Booster()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of older versions; the proof decides
            booster.load_model(path)
    except (xgboost.core.XGBoostError, ValueError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{path} cannot be read as an XGBoost model ({_reason(error)})",
            "a file of Booster.save_model: .ubj or .json",
        ) from error
    return booster


def _of_booster(booster: xgboost.Booster, forest: Forest, rounds: int | None) -> Predict | Classify:
    own = booster.copy()
    span = (0, rounds or 0)

    def matrix(x: np.ndarray) -> xgboost.DMatrix:
        return xgboost.DMatrix(
            x,
            missing=np.nan,
            feature_names=own.feature_names,
            feature_types=own.feature_types,
            enable_categorical=True,
        )

    def predict(x: np.ndarray, threads: int | None) -> np.ndarray:
        own.set_param({"nthread": threads or 0})
        with _told():
            answer: np.ndarray = own.predict(matrix(x), iteration_range=span)
        return answer

    def classify(x: np.ndarray, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
        answer = predict(x, threads)
        if answer.ndim == 2:
            return answer.argmax(axis=1), answer
        if len(forest.base) == 1:
            return answer > 0.5, np.stack([1 - answer, answer], axis=1)
        raw = own.predict(matrix(x), iteration_range=span, output_margin=True)  # multi:softmax
        raised = np.exp(raw - raw.max(axis=1, keepdims=True))
        return answer, raised / raised.sum(axis=1, keepdims=True)

    return predict if forest.classes is None else classify


def _of_wrapper(model: Any) -> ForestOrigin:
    try:
        raw = bytes(model.get_booster().save_raw("ubj"))
    except (xgboost.core.XGBoostError, ValueError) as error:  # its NotFittedError is a ValueError
        raise SourceError(
            f"this {type(model).__name__} is not trained", "a trained model"
        ) from error
    forest = forest_of_wrapper(model)
    own = copy.deepcopy(model)

    # An array, not a DataFrame, whose categories would have to be typed as those of the training.
    def predict(x: np.ndarray, threads: int | None) -> np.ndarray:
        own.get_booster().set_param({"nthread": threads or 0})
        with _told():
            answer: np.ndarray = own.predict(x, validate_features=False)
        return answer

    def classify(x: np.ndarray, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
        label = predict(x, threads)
        with _told():
            return label, own.predict_proba(x, validate_features=False)

    code = raw + repr((type(model).__name__, forest.classes, len(forest.trees))).encode()
    answer = predict if forest.classes is None else classify
    columns = model.get_booster().feature_names or ()
    return ForestOrigin("xgboost", MADE_BY, forest, answer, code, columns)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """XGBoost's own error becomes a ``SourceError`` of one line."""
    try:
        yield
    except xgboost.core.XGBoostError as error:
        raise SourceError(
            f"XGBoost refuses to predict ({_reason(error)})", "a model that runs"
        ) from error


def _reason(error: Exception) -> str:
    """Of "[time] place in its source: what is wrong", lines of the file and a stack trace."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", line)[:200]
