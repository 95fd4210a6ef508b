"""LightGBM's models as origins."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from onnxpress.errors import InputError, SourceError
from onnxpress.sources._lightgbm.structure import check
from onnxpress.trees.forest import Forest
from onnxpress.trees.lightgbm import forest_of, forest_of_wrapper, linear_trees
from onnxpress.trees.origin import Classify, ForestOrigin, Predict

MADE_BY = f"LightGBM {lightgbm.__version__}"
LINEAR = "\nis_linear=1"


def open_origin(ref: object) -> ForestOrigin:
    """Raises ``InputError`` for a missing file, ``SourceError`` for one that is no model."""
    if isinstance(ref, lightgbm.LGBMModel):
        return _of_wrapper(ref)
    booster = ref if isinstance(ref, lightgbm.Booster) else _load(Path(str(ref)))
    forest = forest_of(booster.dump_model(), None)
    code = booster.model_to_string().encode()
    predict = _of_booster(booster, forest)
    return ForestOrigin("lightgbm", MADE_BY, forest, predict, code, _columns(booster))


def _load(path: Path) -> lightgbm.Booster:
    if not path.is_file():
        wrong = "is no file" if path.exists() else "does not exist"
        raise InputError(f"{path} {wrong}", "a text file saved by LightGBM")
    try:
        text = path.read_bytes().decode()
        check(text)
        if LINEAR in text:
            raise linear_trees()
        return lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SourceError(
            f"{path} is no LightGBM model, or a damaged one ({reason})",
            "a file of Booster.save_model",
        ) from error


def _of_booster(booster: lightgbm.Booster, forest: Forest) -> Predict | Classify:
    def predict(x: np.ndarray, threads: int | None) -> np.ndarray:
        return np.asarray(booster.predict(x, num_threads=threads or 0))

    def classify(x: np.ndarray, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
        answer = predict(x, threads)
        if answer.ndim == 1:
            answer = np.stack([1 - answer, answer], axis=1)
        return answer.argmax(axis=1), answer

    return predict if forest.classes is None else classify


def _of_wrapper(model: Any) -> ForestOrigin:
    try:
        code = model.booster_.model_to_string().encode()
    except ValueError as error:  # its NotFittedError is one
        raise SourceError(
            f"this {type(model).__name__} is not trained", "a trained model"
        ) from error
    forest = forest_of_wrapper(model)

    def call(method: Any, x: np.ndarray, threads: int | None) -> np.ndarray:
        with warnings.catch_warnings():
            # The names of the columns are the model's business, not the feeds'.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            return np.asarray(method(x, num_threads=threads or 0))

    def predict(x: np.ndarray, threads: int | None) -> np.ndarray:
        return call(model.predict, x, threads)

    def classify(x: np.ndarray, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
        return call(model.predict, x, threads), call(model.predict_proba, x, threads)

    code += repr((type(model).__name__, forest.classes)).encode()
    answer = predict if forest.classes is None else classify
    return ForestOrigin("lightgbm", MADE_BY, forest, answer, code, _columns(model.booster_))


def _columns(booster: lightgbm.Booster) -> list[str]:
    """The names that it was given; none where it made its own."""
    names = booster.feature_name()
    return [] if names == [f"Column_{index}" for index in range(len(names))] else names
