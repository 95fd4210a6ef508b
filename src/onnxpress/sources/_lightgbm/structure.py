"""The structure of a LightGBM file, before LightGBM sees it: a damaged one ends its process.

The format is that of its ``src/boosting/gbdt_model_text.cpp`` and ``src/io/tree.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

HEADER_END, TREES_END = "\nTree=", "end of trees"
CATEGORICAL = 1
"""This bit of a split's ``decision_type``: its threshold is a place in ``cat_boundaries``."""

Words = Mapping[str, list[str]]


class Damaged(ValueError):
    """Says what does not fit, as a clause."""


def check(text: str) -> None:
    """Raises ``Damaged`` where LightGBM would read what is not there.

    Sizes of the blocks, lengths of the arrays, what they point to: not whether a leaf's value is
    the one that was trained.
    """
    start, end = text.find(HEADER_END) + 1, text.find(TREES_END)
    if not text.startswith("tree") or end < 0:
        raise Damaged("its first or last lines are missing")
    start = min(start, end) if start else end
    header = _words(text[:start])
    features = _header(header)
    blocks = re.split(r"^(?=Tree=)", text[start:end], flags=re.MULTILINE)[1:]
    if "tree_sizes" in header:
        sizes = _whole(header, "tree_sizes")
        if sizes != [len(block.encode()) for block in blocks]:
            raise Damaged("its trees have other sizes than its header says")
    if len(blocks) % _one(header, "num_tree_per_iteration"):
        raise Damaged(f"{len(blocks)} trees make no whole number of iterations")
    for index, block in enumerate(blocks):
        try:
            if any(line.count("=") != 1 for line in block.split("\n") if line.strip("\r")):
                raise Damaged("a line that is no NAME=VALUE")
            _tree(_words(block), features)
        except Damaged as error:
            raise Damaged(f"tree {index}: {error}") from None


def _header(header: Words) -> int:
    """The number of features."""
    trees, classes = _one(header, "num_tree_per_iteration"), _one(header, "num_class")
    features = _one(header, "max_feature_idx") + 1
    if trees < 1 or features < 1:
        raise Damaged("no trees or features")
    of_objective = [
        int(word.partition(":")[2] or -1)
        for word in header.get("objective", [])
        if re.fullmatch(r"num_class:\d*", word)
    ]
    if any(count != trees for count in (classes, *of_objective)):
        raise Damaged("the counts of classes differ")
    for name in ("feature_names", "feature_infos"):
        if len(header.get(name, [])) != features:
            raise Damaged(f"{name} has not {features} words")
    for info in header["feature_infos"]:
        if info != "none":
            ends = re.fullmatch(r"\[([^:]+):([^:]+)\]", info)
            _real("feature_infos", ends.groups() if ends else info.split(":"))
    return features


def _tree(tree: Words, features: int) -> None:
    leaves = _one(tree, "num_leaves")
    if leaves < 1:
        raise Damaged("no leaves")
    _numbers(tree, "leaf_value", leaves)
    if leaves == 1:
        return
    splits = leaves - 1
    _numbers(tree, "threshold", splits)
    if not all(0 <= feature < features for feature in _whole(tree, "split_feature", splits)):
        raise Damaged("a split of a feature that is not there")
    _children(_whole(tree, "left_child", splits), _whole(tree, "right_child", splits))
    for name, count in (("split_gain", splits), ("internal_value", splits),
                        ("internal_weight", splits), ("internal_count", splits),
                        ("leaf_weight", leaves), ("leaf_count", leaves)):  # fmt: skip
        if name in tree:
            _numbers(tree, name, count)
    _categories(tree, splits)


def _children(left: list[int], right: list[int]) -> None:
    """From the root, node 0, every node and leaf (``~leaf``) is reached once."""
    expected = set(range(-len(left) - 1, len(left))) - {0}
    stack = [0]
    while stack:
        node = stack.pop()
        for child in (left[node], right[node]):
            if child not in expected:
                raise Damaged(f"child {child} of node {node} makes no tree")
            expected.remove(child)
            if child > 0:
                stack.append(child)
    # As many children as there are places for them: none is left over.


def _categories(tree: Words, splits: int) -> None:
    decisions = _whole(tree, "decision_type", splits)
    places = [
        float(threshold)
        for threshold, decision in zip(tree["threshold"], decisions, strict=True)
        if decision & CATEGORICAL
    ]
    count = _one(tree, "num_cat")
    if not count:
        if places:
            raise Damaged("a split of categories that are not there")
        return
    bounds = _whole(tree, "cat_boundaries", count + 1)
    if bounds[0] != 0 or sorted(bounds) != bounds or not all(0 <= at < count for at in places):
        raise Damaged("its categories do not fit")
    _whole(tree, "cat_threshold", bounds[-1])


def _words(block: str) -> Words:
    """Not ``split()``: a feature's name may hold white space that is no blank."""
    lines = (line.rstrip("\r").partition("=") for line in block.split("\n"))
    return {
        name: [word for word in value.split(" ") if word] for name, equals, value in lines if equals
    }


def _one(block: Words, name: str) -> int:
    return _whole(block, name, 1)[0]


def _whole(block: Words, name: str, count: int | None = None) -> list[int]:
    words = block.get(name, [])
    if not all(re.fullmatch(r"-?\d{1,18}", word) for word in words):
        raise Damaged(f"{name} holds what is no whole number")
    if count is not None and len(words) != count:
        raise Damaged(f"{name} has {len(words)} numbers instead of {count}")
    return [int(word) for word in words]


def _numbers(block: Words, name: str, count: int) -> None:
    words = block.get(name, [])
    if len(words) != count:
        raise Damaged(f"{name} has {len(words)} numbers instead of {count}")
    _real(name, words)


def _real(name: str, words: Sequence[str]) -> None:
    try:
        for word in words:
            float(word)
    except ValueError:
        raise Damaged(f"{name} holds what is no number") from None
