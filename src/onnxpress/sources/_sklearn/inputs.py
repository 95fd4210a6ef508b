"""What a fitted scikit-learn model takes: one matrix, or a column each of a DataFrame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxpress.errors import SourceError
from onnxpress.signature import Feeds, TensorSpec
from onnxpress.trees.classes import categories_of

MATRIX = "X"
ROWS = 16
WORDS = 6
UNSEEN, UNSEEN_NUMBER = "a value never seen", 1e6
ODD_TEXTS = (
    "", " ", "a", UNSEEN, "{0} {1} {0} {0}", "Don't: {0}, a {1} -- {2}!", "  {0}\n\t{1}  {2}\n",
    "naïve_{0} É{1}²",
)  # fmt: skip
"""Texts that words of the vocabulary are put into: what parts them, counts, alphabets."""


@dataclass(frozen=True)
class Input:
    """One input: ``values`` are some that it may have (float32, int64 or strings, [rows, columns]).

    ``category`` tells whether there is a set of values that it knows; ``text`` are some more that
    a vectorizer must take apart as the original does.
    """

    name: str
    strings: bool
    values: np.ndarray
    category: bool = False
    text: tuple[str, ...] = ()

    @property
    def odd(self) -> tuple[str | float, ...]:
        """Values that a model may or may not take: missing ones, categories never seen."""
        if self.strings:
            return self.text or (UNSEEN,)
        if self.values.dtype == np.int64:
            return (UNSEEN_NUMBER,)
        return (math.nan, UNSEEN_NUMBER) if self.category else (math.nan,)

    @property
    def columns(self) -> int:
        return int(self.values.shape[1])

    def spec(self, batch: int | str) -> TensorSpec:
        return TensorSpec(self.name, self.values.dtype.name, (batch, self.columns))


@dataclass(frozen=True)
class Inputs:
    """``frame``: whether the model takes a DataFrame of these columns; ``text``: a 1-d array.

    ``bare``: whether a matrix stays without ``names``: XGBoost would ask for typed categories.
    """

    every: tuple[Input, ...]
    frame: bool
    text: bool = False
    names: tuple[str, ...] = ()
    bare: bool = False

    @property
    def example(self) -> Feeds:
        return {one.name: one.values for one in self.every}

    def as_taken(self, feeds: Feeds) -> Any:
        """``feeds`` as the model itself takes them; numbers as float64, which changes none."""
        if self.frame:
            import pandas

            return pandas.DataFrame(
                {
                    one.name: feeds[one.name][:, 0].astype(object if one.strings else np.float64)
                    for one in self.every
                }
            )
        array = feeds[self.every[0].name]
        if self.text:
            return array[:, 0]
        array = array.astype(np.float64)
        if self.names and not self.bare:
            import pandas

            return pandas.DataFrame(array, columns=list(self.names))
        return array


def inputs_of(model: Any) -> Inputs:
    """Raises ``SourceError`` where nothing tells the columns."""
    first = first_step(model)
    names = getattr(first, "feature_names_in_", None)
    if type(first).__name__ == "ColumnTransformer" and names is not None:
        return Inputs(tuple(_of_columns(first, list(names))), frame=True)
    if _is_vectorizer(first):
        return Inputs((_of_text(MATRIX, first),), frame=False, text=True)
    categories = categories_of(first) if type(first).__name__.startswith("HistGrad") else {}
    if names is not None and any(values.dtype.kind not in "iufb" for values in categories.values()):
        every = [_of_category(str(name), categories.get(i)) for i, name in enumerate(names)]
        return Inputs(tuple(every), frame=True)
    count = getattr(first, "n_features_in_", None)
    if count is None:
        raise SourceError(
            f"{type(model).__name__} is not fitted, or takes no table", "a fitted estimator"
        )
    given = () if names is None else tuple(map(str, names))
    matrix = Input(MATRIX, False, _numbers(first, int(count)))
    bare = type(first).__module__.startswith("xgboost.")
    return Inputs((matrix,), frame=False, names=given, bare=bare)


def first_step(model: Any) -> Any:
    """The estimator that reads the input: the first of a pipeline or union, a search's best."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "steps") or hasattr(model, "transformer_list"):
            inner = model.steps if hasattr(model, "steps") else model.transformer_list
            steps = [step for _, step in inner if step not in (None, "passthrough", "drop")]
            if not steps:
                return model
            model = steps[0]
        else:
            return model


def _of_columns(transformer: Any, names: list[str]) -> Iterator[Input]:
    found: dict[int, Input] = {}
    for label, step, _ in transformer.transformers_:
        indices = list(transformer._transformer_to_input_indices.get(label, ()))
        if step == "drop":
            continue
        encoder = first_step(step)
        for place, index in enumerate(indices):
            found.setdefault(index, _of_column(names[index], encoder, place))
    for index in sorted(found):
        yield found[index]


def _of_column(name: str, encoder: Any, place: int) -> Input:
    if _is_vectorizer(encoder):
        return _of_text(name, encoder)
    categories = getattr(encoder, "categories_", None)
    if categories is not None:
        return _of_category(name, np.asarray(categories[place]))
    filled = np.asarray(getattr(encoder, "statistics_", ()))
    if filled.dtype.kind in "OUS" and isinstance(filled[place], str):
        return Input(name, True, np.full((ROWS, 1), filled[place], object))
    count = int(getattr(encoder, "n_features_in_", place + 1))
    return Input(name, False, _numbers(encoder, max(count, place + 1))[:, place : place + 1])


def _of_category(name: str, categories: np.ndarray | None) -> Input:
    if categories is None:
        return Input(name, False, _numbers(None, 1))
    known = [value for value in categories if value is not None and value == value]  # noqa: PLR0124
    strings = any(isinstance(value, str) for value in known)
    drawn = np.random.default_rng(0).integers(0, max(len(known), 1), ROWS)
    # skl2onnx cuts the fractions of float categories off, so whole ones are asked for as such.
    whole = bool(known) and not strings and np.asarray(known).dtype.kind in "iu"
    values = np.empty((ROWS, 1), object if strings else np.int64 if whole else np.float32)
    values[:, 0] = [known[i] for i in drawn] if known else 0
    return Input(name, strings, values, category=True)


def _is_vectorizer(step: Any) -> bool:
    return type(step).__name__ in ("TfidfVectorizer", "CountVectorizer", "HashingVectorizer")


def _of_text(name: str, vectorizer: Any) -> Input:
    """Sentences of words that the vectorizer knows, some of its stop words among them."""
    words = sorted(getattr(vectorizer, "vocabulary_", {})) or ["word"]
    words += sorted(vectorizer.get_stop_words() or ())[: len(words)]
    drawn = np.random.default_rng(0).choice(np.array(words, object), (ROWS, WORDS))
    texts = np.empty((ROWS, 1), object)
    texts[:, 0] = [" ".join(row) for row in drawn]
    odd = [text.format(*row) for text, row in zip(ODD_TEXTS, drawn, strict=False)]
    return Input(name, True, texts, text=(*odd, texts[-1, 0].upper(), texts[-1, 0].title()))


def _numbers(step: Any, count: int) -> np.ndarray:
    """float32 [rows, count] of the ranges that a scaler or imputer tells; else normal."""
    drawn = np.random.default_rng(0).standard_normal((ROWS, count))
    centre, spread = np.zeros(count), np.ones(count)
    told_by = (
        ("mean_", centre), ("center_", centre), ("data_min_", centre), ("statistics_", centre),
        ("scale_", spread), ("data_range_", spread),
    )  # fmt: skip
    for name, target in told_by:
        told = getattr(step, name, None)
        if isinstance(told, np.ndarray) and told.shape == (count,) and told.dtype.kind == "f":
            target[:] = told
    return (centre + spread * drawn).astype(np.float32)
