"""scikit-learn's decision trees, forests and gradient boosting as forests.

Its trees compare float32 features with float64 thresholds, and know where missing values go.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpress.trees.classes import classes_of
from onnxpress.trees.forest import Forest, Leaf, Split, Tree, at_most

SINGLE = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier",
          "ExtraTreeRegressor")  # fmt: skip
AVERAGED = ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier",
            "ExtraTreesRegressor")  # fmt: skip
BOOSTED = ("GradientBoostingClassifier", "GradientBoostingRegressor")


def forest_of(model: Any) -> Forest | None:
    """None for what is another kind of model, and for several labels at once."""
    name = type(model).__name__
    if not type(model).__module__.startswith("sklearn."):
        return None
    if name in BOOSTED:
        return _boosted(model)
    if name not in SINGLE + AVERAGED or (model.n_outputs_ > 1 and hasattr(model, "classes_")):
        return None
    inner = [model] if name in SINGLE else list(model.estimators_)
    classes = classes_of(model)
    columns = len(classes) if classes is not None else int(model.n_outputs_)
    trees = tuple(_tree(one.tree_, tuple(range(columns)), 1.0) for one in inner)
    return Forest(
        trees,
        int(model.n_features_in_),
        (0.0,) * columns,
        "mean",
        classes,
        divisor=float(len(trees)),
        takes_missing=bool(inner[0]._support_missing_values(np.zeros((1, 1)))),
    )


def _boosted(model: Any) -> Forest | None:
    # The first score may be a whole model of its own (``init``): only a constant one is a base.
    if type(model.init_).__name__ not in ("DummyClassifier", "DummyRegressor", "str"):
        return None
    nothing = np.zeros((1, int(model.n_features_in_)), np.float32)
    base = np.asarray(model._raw_predict_init(nothing), np.float64)[0]
    trees = tuple(
        _tree(one.tree_, (target,), float(model.learning_rate))
        for stage in model.estimators_
        for target, one in enumerate(stage)
    )
    classes = classes_of(model)
    link = "identity" if classes is None else "sigmoid" if len(base) == 1 else "softmax"
    return Forest(
        trees,
        int(model.n_features_in_),
        tuple(map(float, base)),
        link,  # type: ignore[arg-type]  # three of the links
        classes,
        scale=2.0 if getattr(model, "loss", "") == "exponential" else 1.0,
        tie_to_second=True,
        takes_missing=False,
    )


def _tree(tree: Any, targets: tuple[int, ...], weight: float) -> Tree:
    nodes: list[Split | Leaf] = []
    for index in range(tree.node_count):
        left, right = int(tree.children_left[index]), int(tree.children_right[index])
        if left == -1:
            values = tree.value[index].reshape(-1) * weight
            nodes.append(Leaf(targets, tuple(map(float, values))))
            continue
        missing_left = bool(tree.missing_go_to_left[index])
        test = at_most(float(tree.threshold[index]), missing=missing_left)
        nodes.append(Split(int(tree.feature[index]), (test,), False, left, right))
    return nodes
