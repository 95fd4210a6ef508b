"""What a fitted scikit-learn model takes: one matrix, or a column each of a DataFrame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxpress.errors import SourceError
from onnxpress.signature import Feeds, TensorSpec
from onnxpress.sources._sklearn.memory import between, is_imputer, remembered
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

    ``single``: whether it takes float32 alone, as some that were fitted on float32 do.
    ``nameless``: whether a matrix stays without ``names``: XGBoost would ask for typed categories.
    """

    every: tuple[Input, ...]
    frame: bool
    text: bool = False
    names: tuple[str, ...] = ()
    single: bool = False
    nameless: bool = False

    @property
    def example(self) -> Feeds:
        return {one.name: one.values for one in self.every}

    def as_taken(self, feeds: Feeds) -> Any:
        """``feeds`` as the model itself takes them; numbers as float64, which changes none."""
        number = np.float32 if self.single else np.float64
        if self.frame:
            import pandas

            return pandas.DataFrame(
                {
                    one.name: feeds[one.name][:, 0].astype(object if one.strings else number)
                    for one in self.every
                }
            )
        array = feeds[self.every[0].name]
        if self.text:
            return array[:, 0]
        if array.dtype != object:
            array = array.astype(number)
        if self.names and not self.nameless:
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
    nameless = type(first).__module__.startswith("xgboost.")
    matrix = _of_matrix(model, first, int(count))
    return Inputs((matrix,), frame=False, names=given, nameless=nameless)


def bare(model: Any) -> Any:
    """The best of a search, and a pipeline of one step as that step."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "steps") and len(model.steps) == 1:
            model = model.steps[0][1]
        else:
            return model


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


def encoder_of(step: Any) -> Any:
    """What knows the input's categories, behind imputers; else the first step."""
    for one in _flat(step):
        if hasattr(one, "categories_"):
            return one
        if one not in (None, "passthrough") and not is_imputer(one):
            break
    return first_step(step)


def _flat(step: Any) -> Iterator[Any]:
    """The steps of a pipeline, and of pipelines in it."""
    step = bare(step)
    if hasattr(step, "steps"):
        for _, one in step.steps:
            yield from _flat(one)
    else:
        yield step


def _of_matrix(model: Any, first: Any, count: int) -> Input:
    columns: list[Input] = []
    known = _categories(encoder_of(model), count)
    if known is not None:
        columns = [_of_category(MATRIX, values, seed) for seed, values in enumerate(known)]
    elif hasattr(first, "transformers_"):
        found = _found(first, [MATRIX] * count)
        columns = [found.get(i) or _of_category(MATRIX, None) for i in range(count)]
    if known is None and not any(one.category or one.strings for one in columns):
        return Input(MATRIX, False, _numbers(first, count, model))
    if len({one.strings for one in columns}) > 1:
        raise SourceError(
            f"a matrix whose columns hold words and numbers, of which {type(first).__name__} knows "
            "the categories",
            "a DataFrame that a ColumnTransformer takes apart",
        )
    values = np.concatenate([one.values for one in columns], axis=1)  # float32 if any column is
    if values.dtype == np.float64:  # what NumPy makes of int64 and float32
        values = values.astype(np.float32)
    if first is not encoder_of(model) and not columns[0].strings:
        values = values.astype(np.float32)  # an imputer's values may be missing
    return Input(MATRIX, columns[0].strings, values, category=True)


def _categories(encoder: Any, count: int) -> list[np.ndarray] | None:
    """What values each column may have, if ``encoder`` knows."""
    numbers = getattr(encoder, "n_categories_", None)
    if numbers is not None:
        return [np.arange(number) for number in numbers]
    known = getattr(encoder, "categories_", None)
    return known if known is not None and len(known) == count else None


def _of_columns(transformer: Any, names: list[str]) -> Iterator[Input]:
    found = _found(transformer, names)
    for index in sorted(found):
        yield found[index]


def _found(transformer: Any, names: list[str]) -> dict[int, Input]:
    """Each column that a ``ColumnTransformer`` uses."""
    found: dict[int, Input] = {}
    for label, step, _ in transformer.transformers_:
        indices = list(transformer._transformer_to_input_indices.get(label, ()))
        if step == "drop":
            continue
        encoder = encoder_of(step)
        for place, index in enumerate(indices):
            one = _of_column(names[index], encoder, place)
            if encoder is not first_step(step) and not one.strings:
                # An imputer's values may be missing.
                one = replace(one, values=one.values.astype(np.float32))
            found.setdefault(index, one)
    return found


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


def _of_category(name: str, categories: np.ndarray | None, seed: int = 0) -> Input:
    if categories is None:
        return Input(name, False, _numbers(None, 1))
    known = [value for value in categories if value is not None and value == value]  # noqa: PLR0124
    strings = any(isinstance(value, str) for value in known)
    drawn = np.random.default_rng(seed).integers(0, max(len(known), 1), ROWS)
    # skl2onnx cuts the fractions of float categories off, so whole ones are asked for as such.
    whole = bool(known) and not strings and np.asarray(known).dtype.kind in "iub"
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


def _numbers(step: Any, count: int, model: Any = None) -> np.ndarray:
    """float32 [rows, count] of the ranges that a scaler or imputer tells.

    Else between rows that ``model`` remembers, else normal.
    """
    drawn = np.random.default_rng(0).standard_normal((ROWS, count))
    centre, spread = np.zeros(count), np.ones(count)
    told_by = (
        ("mean_", centre), ("center_", centre), ("data_min_", centre), ("statistics_", centre),
        ("scale_", spread), ("data_range_", spread),
    )  # fmt: skip
    ranged = False
    for name, target in told_by:
        told = getattr(step, name, None)
        if isinstance(told, np.ndarray) and told.shape == (count,) and told.dtype.kind == "f":
            target[:] = told
            ranged |= target is spread
    if not ranged:
        rows = remembered(step if model is None else model, count)
        if len(rows) > 1:
            return between(rows, ROWS).astype(np.float32)
    return (centre + spread * drawn).astype(np.float32)
