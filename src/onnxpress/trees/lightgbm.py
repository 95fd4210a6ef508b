"""LightGBM's models as forests, from ``Booster.dump_model()``.

How its trees decide is in its ``include/LightGBM/tree.h``: ``NumericalDecision`` and
``CategoricalDecision``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from onnxpress.errors import SourceError
from onnxpress.trees.classes import classes_of
from onnxpress.trees.forest import (
    Forest,
    Leaf,
    Link,
    Split,
    Test,
    Tree,
    below,
    member,
    nearest,
    step,
)

ZERO = below(1.0000000180025095e-35)
"""LightGBM reads what is at most this, either side of 0, as 0 (``kZeroThreshold``)."""

LINKS: dict[str, Link] = {
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "softplus",
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "quantile": "identity",
    "mape": "identity",
    "lambdarank": "identity",
    "rank_xendcg": "identity",
}
CLASSIFIERS = ("binary", "multiclass", "multiclassova")


def forest_of(dump: Mapping[str, Any], classes: tuple[int, ...] | tuple[str, ...] | None) -> Forest:
    """``classes`` are a classifier's labels; without them they are 0, 1, ….

    Raises ``SourceError`` for linear trees and for objectives that have no known link.
    """
    objective, *words = str(dump.get("objective") or "regression").split(" ")
    if objective not in LINKS:
        raise SourceError(f"LightGBM's objective '{objective}'", f"one of {', '.join(LINKS)}")
    options = dict(word.split(":", 1) for word in words if ":" in word)
    targets = int(dump["num_tree_per_iteration"])
    drawn = dump["tree_info"]
    infos = dump.get("feature_infos", {})
    share = targets / len(drawn) if dump.get("average_output") and drawn else 1.0
    trees = tuple(
        _tree(info["tree_structure"], index % targets, share) for index, info in enumerate(drawn)
    )
    numbered = tuple(range(max(targets, 2)))
    return Forest(
        trees,
        int(dump["max_feature_idx"]) + 1,
        (0.0,) * targets,
        "square" if "sqrt" in words else LINKS[objective],
        (classes or numbered) if objective in CLASSIFIERS else None,
        scale=float(options.get("sigmoid", 1.0)),
        codes="trunc",
        ranges={
            index: (float(infos[name]["min_value"]), float(infos[name]["max_value"]))
            for index, name in enumerate(dump["feature_names"])
            if name in infos
        },
    )


def _tree(root: Mapping[str, Any], target: int, share: float) -> Tree:
    """The nested dump as a list; a stack, since LightGBM's trees grow deep."""
    nodes: list[Split | Leaf | None] = [None]
    stack = [(0, root)]
    while stack:
        index, node = stack.pop()
        if "split_feature" not in node:
            if "leaf_coeff" in node or "leaf_features" in node:
                raise linear_trees()
            nodes[index] = Leaf((target,), (float(node["leaf_value"]) * share,))
            continue
        left, right = len(nodes), len(nodes) + 1
        nodes += [None, None]
        stack += [(left, node["left_child"]), (right, node["right_child"])]
        nodes[index] = _split(node, (left, right))
    return [node for node in nodes if node is not None]


def linear_trees() -> SourceError:
    """The error for leaves that are linear models."""
    return SourceError(
        "a LightGBM model with linear trees", "constant leaves", "train without linear_tree"
    )


def _split(node: Mapping[str, Any], sides: tuple[int, int]) -> Split:
    feature = int(node["split_feature"])
    if node["decision_type"] == "==":
        codes = [float(code) for code in str(node["threshold"]).split("||")]
        return member(feature, codes, True, sides)
    exact: float | None = float(node["threshold"])
    threshold, negative = nearest(float(node["threshold"])), step(-ZERO, -math.inf)
    if -ZERO <= threshold <= ZERO:
        threshold, exact = ZERO if threshold >= 0 else negative, None
    default_left, zero_left = bool(node["default_left"]), threshold >= 0
    missing = str(node["missing_type"])
    test = Test("LEQ", threshold, exact=exact)
    if missing == "NaN" or default_left == zero_left:
        return Split(feature, (dataclasses.replace(test, missing=default_left),), False, *sides)
    if missing == "None":  # NaN is read as 0
        return Split(feature, (dataclasses.replace(test, missing=zero_left),), False, *sides)
    # Zero is missing and goes elsewhere than its value would: three ranges, each with its test.
    tests = [Test("LEQ", negative), Test("LEQ", ZERO, default_left, missing=True)]
    if threshold > negative:
        tests.append(test)
    else:
        tests[0] = Test("LEQ", negative, left=False)
        tests.insert(0, test)
    return Split(feature, tuple(tests), False, *sides)


def forest_of_wrapper(model: Any) -> Forest:
    """Of a fitted ``LGBMClassifier``, ``LGBMRegressor`` or ``LGBMRanker``."""
    return forest_of(model.booster_.dump_model(), classes_of(model))
