"""Small models on scikit-learn's tables, trained in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes, load_wine

from onnxpress.model import Model
from zoo.graphs import answers

WINE = load_wine(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


def holes(x: np.ndarray, seed: int = 0, share: float = 0.1) -> np.ndarray:
    """``x`` with missing values."""
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


def outputs(model: Model, rows: np.ndarray) -> list[np.ndarray]:
    """What ``model`` makes of float64 ``rows`` that are rounded to float32, as a user's are."""
    return answers(model, {"X": rows.astype(np.float32)})


def save(name: str, folder: Path) -> Path:
    """A classifier of wines in the own format of the library that source ``name`` reads."""
    x, y = WINE
    if name == "sklearn":
        import skops.io
        from sklearn.ensemble import HistGradientBoostingClassifier

        skops.io.dump(HistGradientBoostingClassifier(max_iter=3).fit(x, y), folder / "m.skops")
        return folder / "m.skops"
    if name == "xgboost":
        import xgboost

        xgboost.XGBClassifier(n_estimators=3, max_depth=3).fit(x, y).save_model(folder / "m.ubj")
        return folder / "m.ubj"
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=3, verbosity=-1).fit(x, y)
    model.booster_.save_model(folder / "m.txt")
    return folder / "m.txt"
