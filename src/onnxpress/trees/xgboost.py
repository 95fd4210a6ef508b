"""XGBoost's models as forests, from ``Booster.save_raw("json")``.

How its trees decide is in its ``include/xgboost/tree_model.h`` and
``src/common/categorical.h``: float32 ``<`` goes left, a listed category goes right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from onnxpress.errors import SourceError
from onnxpress.trees.forest import Forest, Leaf, Link, Split, Test, Tree, member

LINKS: dict[str, Link] = {
    "binary:logistic": "sigmoid",
    "binary:logitraw": "identity",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "reg:squarederror": "identity",
    "reg:squaredlogerror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
    "reg:logistic": "sigmoid",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "count:poisson": "exp",
    "survival:cox": "exp",
    "survival:aft": "exp",
    "rank:pairwise": "identity",
    "rank:ndcg": "identity",
    "rank:map": "identity",
}
CLASSIFIERS = ("binary:logistic", "multi:softprob", "multi:softmax")


def forest_of(
    raw: bytes | bytearray,
    *,
    classes: tuple[int, ...] | None = None,
    iterations: int | None = None,
    missing: float = math.nan,
) -> Forest:
    """``iterations`` are the boosting rounds that count, all of them without.

    ``classes`` are a classifier's labels; without them they are 0, 1, …. ``missing`` is read as
    NaN. Raises ``SourceError`` for what is no ensemble of trees with one number in each leaf, for
    objectives that have no known link and for classifiers of several labels at once.
    """
    learner = json.loads(raw)["learner"]
    objective = str(learner["objective"]["name"])
    if objective not in LINKS:
        raise SourceError(f"XGBoost's objective '{objective}'", f"one of {', '.join(LINKS)}")
    booster = learner["gradient_booster"]
    if booster["name"] not in ("gbtree", "dart"):
        raise SourceError(f"XGBoost's booster '{booster['name']}'", "gbtree or dart")
    weights = booster.get("weight_drop")
    model = booster["gbtree"]["model"] if "gbtree" in booster else booster["model"]
    described = learner["learner_model_param"]
    targets = max(int(described["num_class"]), int(described.get("num_target", 1)), 1)
    if objective in CLASSIFIERS and int(described.get("num_target", 1)) > 1:
        raise SourceError(
            f"an XGBoost classifier with {described['num_target']} labels at once",
            "one label",
            "train one classifier for each label",
        )
    count = len(model["trees"])
    if iterations is not None:
        count = int(model["iteration_indptr"][iterations])
    trees = tuple(
        _tree(tree, target, 1.0 if weights is None else float(weights[index]))
        for index, (tree, target) in enumerate(
            zip(model["trees"][:count], model["tree_info"], strict=False)
        )
    )
    numbered = tuple(range(max(targets, 2)))
    return Forest(
        trees,
        int(described["num_feature"]),
        _base(described["base_score"], objective, targets),
        LINKS[objective],
        (classes or numbered) if objective in CLASSIFIERS else None,
        missing=missing,
        codes="floor",  # negative ones are no categories
    )


def _base(text: str, objective: str, targets: int) -> tuple[float, ...]:
    """The raw scores before the first tree: XGBoost stores what the link makes of them."""
    read = json.loads(text)
    scores = [float(score) for score in (read if isinstance(read, list) else [read])]
    if len(scores) == 1:
        scores *= targets
    if LINKS[objective] == "sigmoid":
        return tuple(-math.log(1 / score - 1) for score in scores)
    if LINKS[objective] == "exp":
        return tuple(map(math.log, scores))
    return tuple(scores)


def _tree(tree: Mapping[str, Any], target: int, weight: float) -> Tree:
    if int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise SourceError(
            "an XGBoost model with vector leaves",
            "one number in each leaf",
            "train with multi_strategy='one_output_per_tree'",
        )
    categories = {
        int(node): [float(code) for code in tree["categories"][begin : begin + size]]
        for node, begin, size in zip(
            tree["categories_nodes"],
            tree["categories_segments"],
            tree["categories_sizes"],
            strict=True,
        )
    }
    nodes: list[Split | Leaf] = []
    for index, left in enumerate(tree["left_children"]):
        value = float(tree["split_conditions"][index])
        if left == -1:
            nodes.append(Leaf((target,), (value * weight,)))
            continue
        feature = int(tree["split_indices"][index])
        sides = int(left), int(tree["right_children"][index])
        default_left = bool(tree["default_left"][index])
        if index not in categories:
            test = Test("LT", value, missing=default_left)
            nodes.append(Split(feature, (test,), False, *sides))
            continue
        split = member(feature, categories[index], False, sides)
        if not default_left:  # missing values alone go right; what is no category goes left
            first, *rest = split.tests
            first = Test(first.mode, first.value, first.left, missing=True)
            split = Split(feature, (first, *rest), True, *sides)
        nodes.append(split)
    return nodes


def forest_of_wrapper(model: Any) -> Forest:
    """Of a fitted ``XGBClassifier``, ``XGBRegressor``, ``XGBRanker`` and their ``RF`` kin.

    As they predict themselves: to the best round where training stopped early.
    """
    try:
        iterations: int | None = int(model.best_iteration) + 1
    except AttributeError:
        iterations = None
    labels = getattr(model, "classes_", None)
    missing = math.nan if model.missing is None else float(model.missing)
    return forest_of(
        model.get_booster().save_raw("json"),
        classes=None if labels is None else tuple(int(label) for label in labels),
        iterations=iterations,
        missing=missing,
    )
