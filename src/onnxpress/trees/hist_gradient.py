"""scikit-learn's histogram gradient boosting as a forest."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpress.errors import SourceError
from onnxpress.trees.classes import categories_of, classes_of
from onnxpress.trees.forest import Forest, Leaf, Link, Split, Tree, member, near

LINKS: dict[str, Link] = {
    "IdentityLink": "identity",
    "LogLink": "exp",
    "LogitLink": "sigmoid",
    "HalfLogitLink": "sigmoid",
    "MultinomialLogit": "softmax",
}


def forest_of(model: Any) -> Forest:
    """Of a fitted ``HistGradientBoostingClassifier`` or ``HistGradientBoostingRegressor``.

    Columns that the model encodes itself (``categorical_features``) are read raw where they are
    numbers, and as codes 0, 1, … (anything else for a category never seen) where they are not.
    """
    link = type(model._loss.link).__name__
    if link not in LINKS:
        raise SourceError(f"{type(model).__name__} with {link}", f"one of {', '.join(LINKS)}")
    columns = _columns(model)
    base = np.asarray(model._baseline_prediction, np.float64).reshape(-1)
    trees = tuple(
        _tree(predictor, target, columns)
        for iteration in model._predictors
        for target, predictor in enumerate(iteration)
    )
    return Forest(
        trees,
        int(model.n_features_in_),
        tuple(map(float, base)),
        LINKS[link],
        classes_of(model),
        scale=2.0 if link == "HalfLogitLink" else 1.0,
        ranges={
            column: (float(edges[0]), float(edges[-1]))
            for (column, _), edges in zip(columns, model._bin_mapper.bin_thresholds_, strict=True)
            if len(edges)
        },
    )


def _columns(model: Any) -> list[tuple[int, np.ndarray | None]]:
    """The model's inner feature → the column of its input, and the raw value of each code."""
    categories = categories_of(model)
    inner = sorted(range(int(model.n_features_in_)), key=lambda column: column not in categories)
    return [(column, _raw(categories[column]) if column in categories else None)
            for column in inner]  # fmt: skip


def _raw(values: np.ndarray) -> np.ndarray:
    """Numbers as they are, anything else as its code."""
    if values.dtype.kind in "iufb":
        return values.astype(np.float64)
    return np.arange(len(values), dtype=np.float64)


def _tree(predictor: Any, target: int, columns: list[tuple[int, np.ndarray | None]]) -> Tree:
    nodes: list[Split | Leaf] = []
    for node in predictor.nodes:
        if node["is_leaf"]:
            nodes.append(Leaf((target,), (float(node["value"]),)))
            continue
        column, codes = columns[int(node["feature_idx"])]
        missing_left = bool(node["missing_go_to_left"])
        children = int(node["left"]), int(node["right"])
        if not node["is_categorical"]:
            tests = (near(float(node["num_threshold"]), missing=missing_left),)
            nodes.append(Split(column, tests, False, *children))
            continue
        assert codes is not None
        bits = predictor.raw_left_cat_bitsets[int(node["bitset_idx"])]
        is_left = [bool(bits[code // 32] >> (code % 32) & 1) for code in range(len(codes))]
        # Categories never seen go where missing ones go, so the others are the ones to list.
        listed = [codes[code] for code, left in enumerate(is_left) if left != missing_left]
        nodes.append(member(column, listed, not missing_left, children))
    return nodes
