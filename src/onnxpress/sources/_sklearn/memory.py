"""Rows that a fitted model remembers: where its answers were learnt, and so where they may err."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnxpress.sources._sklearn.converters import reader_of
from onnxpress.trees.probes import example

REMEMBERED = 64
"""Rows of each kind that a proof takes."""
ROWS = (
    "_fit_X", "X_train_", "X_fit_", "support_vectors_", "cluster_centers_", "subcluster_centers_",
    "centroids_", "means_", "theta_", "quantiles_", "data_min_", "data_max_", "max_abs_",
)  # fmt: skip
"""Attributes whose last axis is the columns of the input."""
MEMBERS = ("best_estimator_", "estimator_", "estimators_", "calibrated_classifiers_")
"""Attributes that hold fitted models of the same input, where they take as many columns."""
MARGIN = 3.0
"""What a linear model scores the rows that are made of its coefficients; half of them negative."""


def remembered(model: Any, columns: int) -> np.ndarray:
    """float64 [rows, columns], of all that ``model`` and what it is made of keep of their training.

    Training rows, support vectors, centres and means of classes, quantiles, thresholds of trees,
    edges of bins. NaN is a missing value. What stands behind steps of a pipeline is led back
    through their ``inverse_transform``, where they have one.
    """
    rng = np.random.default_rng(0)
    blocks = [rng.permutation(rows)[: 4 * REMEMBERED] for rows in _rows(model, columns)]
    rows = np.concatenate([np.empty((0, columns)), *blocks])
    small: np.ndarray = (~(np.abs(rows) > np.finfo(np.float32).max)).all(axis=1)
    return np.asarray(rows[small])


def between(rows: np.ndarray, count: int) -> np.ndarray:
    """[count, columns]: points on the lines between two of ``rows``, near to neither.

    Not half-way, where nearest neighbours tie.
    """
    rng = np.random.default_rng(1)
    one, two = rows[rng.integers(0, len(rows), (2, count))]
    middle = np.asarray(one + rng.uniform(0.25, 0.75, (count, 1)) * (two - one))
    return _moved(middle, rows, 0.01, rng)  # where two have the same value, off that too


def beside(rows: np.ndarray, count: int) -> np.ndarray:
    """[count, columns]: some of ``rows`` and a little, within the range of each column."""
    rng = np.random.default_rng(2)
    return _moved(rows[rng.integers(0, len(rows), count)], rows, 0.05, rng)


def _moved(
    chosen: np.ndarray, rows: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """``chosen`` moved by ``share`` of what ``rows`` vary by; all that is missing stays so."""
    some = np.where(np.isnan(rows), np.nanmean(rows), rows)
    moved = chosen + share * some.std(axis=0) * rng.standard_normal(chosen.shape)
    return np.asarray(np.clip(moved, some.min(axis=0), some.max(axis=0)))


def _rows(model: Any, columns: int) -> Iterator[np.ndarray]:
    if model is None or isinstance(model, str):
        return
    if hasattr(model, "steps"):
        yield from _through(model.steps, columns)
        return
    if getattr(model, "n_features_in_", columns) != columns:
        return
    read = reader_of(model) if hasattr(model, "n_features_in_") else None  # fitted
    forest = read(model) if read is not None else None
    if forest is not None:
        yield example(forest, REMEMBERED).astype(np.float64)
        return
    for name in ROWS:
        value = getattr(model, name, None)
        if isinstance(value, np.ndarray) and value.ndim in (1, 2) and value.shape[-1] == columns:
            yield np.atleast_2d(value).astype(np.float64)
    edges = getattr(model, "bin_edges_", None)
    if edges is not None:
        rng = np.random.default_rng(0)
        yield np.stack([rng.choice(one, REMEMBERED) for one in edges], axis=1)
    counts = getattr(model, "feature_count_", None)
    if isinstance(counts, np.ndarray) and counts.shape[-1] == columns:
        yield counts / model.class_count_[:, None]
    yield from _scored(model, columns)
    for name in MEMBERS:
        for place, member in enumerate(_members(getattr(model, name, ()))):
            # Of some ensembles each member sees columns of its own.
            seen = getattr(model, "estimators_features_", None)
            if seen is None or len(seen[place]) == columns == len(np.unique(seen[place])):
                yield from _rows(member, columns)
    for _, member, *_ in getattr(model, "transformer_list", ()):
        yield from _rows(member, columns)


def _members(inner: Any) -> Iterator[Any]:
    """Of lists of lists each model; a pipeline has a length too, and is one."""
    if isinstance(inner, list | tuple | np.ndarray):
        for one in inner:
            yield from _members(one)
    elif type(inner).__name__ == "_CalibratedClassifier":  # elsewhere this is what fit clones
        yield inner.estimator
    else:
        yield inner


def _through(steps: list[tuple[str, Any]], columns: int) -> Iterator[np.ndarray]:
    """What each step remembers, led back through the steps before it."""
    before: list[Any] = []
    for _, step in steps:
        if step in (None, "passthrough"):
            continue
        seen = int(getattr(step, "n_features_in_", columns))
        for found in _rows(step, seen):
            rows = _back(before, found)
            if rows is not None and rows.shape[1:] == (columns,):
                yield rows
        if not (is_imputer(step) or hasattr(step, "inverse_transform")):
            return
        before.append(step)


def _back(steps: list[Any], rows: np.ndarray) -> np.ndarray | None:
    """What ``steps`` would make ``rows`` of; None where one of them cannot be undone."""
    for step in reversed(steps):
        if is_imputer(step):
            continue
        try:
            rows = np.asarray(step.inverse_transform(rows), np.float64)
        except (ValueError, TypeError, AttributeError):  # codes that are none, words, no inverse
            return None
    return rows


def is_imputer(step: Any) -> bool:
    """Whether columns and known values stay as they are."""
    return type(step).__name__.endswith("Imputer") and not getattr(step, "add_indicator", False)


def _scored(model: Any, columns: int) -> Iterator[np.ndarray]:
    """Of a linear model: the rows that it gives plus and minus ``MARGIN``, for each class."""
    weights, offset = getattr(model, "coef_", None), getattr(model, "intercept_", 0.0)
    if not isinstance(weights, np.ndarray) or weights.shape[-1] != columns or weights.ndim > 2:
        return
    weights = np.atleast_2d(weights).astype(np.float64)
    length = np.square(weights).sum(axis=1)
    offset = np.ravel(offset)
    if len(offset) not in (1, len(weights)):
        return
    for score in (MARGIN, -MARGIN):
        yield (weights * ((score - offset) / np.maximum(length, 1e-12))[:, None])[length > 0]
