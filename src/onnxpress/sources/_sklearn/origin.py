"""A fitted scikit-learn model as an origin."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
from sklearn.base import (
    BaseEstimator,
    is_classifier,
    is_clusterer,
    is_outlier_detector,
    is_regressor,
)
from threadpoolctl import ThreadpoolController, threadpool_limits

from onnxpress.engine import Executed, Session
from onnxpress.errors import SourceError
from onnxpress.processing import Processing
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.source import Exported, ExportOptions, OpenOptions, Origin
from onnxpress.sources._sklearn.cells import with_cells
from onnxpress.sources._sklearn.converters import reader_of
from onnxpress.sources._sklearn.inputs import Inputs, bare, inputs_of
from onnxpress.sources._sklearn.load import load
from onnxpress.sources._sklearn.memory import REMEMBERED, beside, between, remembered
from onnxpress.trees.classes import classes_of
from onnxpress.trees.graph import LABEL, PREDICTION, PROBABILITIES
from onnxpress.trees.origin import rows_for
from onnxpress.trees.probes import beside_thresholds, example

TRANSFORMED = "transformed"
PROBED_COLUMNS = 8
"""Of a matrix, so that wide ones take no longer."""
NUDGE = np.float32(2e-6)
"""Of a column's largest value: some float32 steps."""
WAYS = 8
"""Random directions, and their opposites, that rounding may move a row in."""


def open_origin(ref: object, options: OpenOptions) -> SklearnOrigin:
    """Raises ``InputError`` or ``SourceError`` for files and objects that are no fitted model."""
    file = Path(str(ref)) if isinstance(ref, str | Path) else None
    model = ref if file is None else load(file, options.trust)
    if not isinstance(model, BaseEstimator):
        raise SourceError(f"{ref} holds a {type(model).__name__}", "a scikit-learn estimator")
    return SklearnOrigin(
        model, "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
    )


class SklearnOrigin(Origin):
    """``session`` is the estimator's own ``predict``, ``predict_proba`` or ``transform``."""

    kind = "sklearn"
    baseline = "scikit-learn predict"

    def __init__(self, model: Any, digest: str = "") -> None:
        """``digest`` is of the file that the model is from: objects read twice may hash apart."""
        self._model, self._digest = model, digest
        self._inputs = inputs_of(model)
        if self._inputs.names:
            self.processing = Processing(columns=self._inputs.names)
        self._last = last_step(model)
        read = None if self._inputs.frame or self._inputs.text else reader_of(self._last)
        self._forest = read(self._last) if read is not None and self._last is bare(model) else None
        # One row tells the outputs' types and widths, and whether the model is fitted.
        try:
            self._outputs = answer(model, self._inputs, self._first_row())
        except SourceError:  # clusters of float32 rows take no others
            single = replace(self._inputs, single=True)
            with contextlib.suppress(SourceError):
                self._outputs = answer(model, single, self._first_row())
                self._inputs = single
            if not self._inputs.single:
                raise

    @property
    def example(self) -> Feeds:
        """Values that encoders, scalers or trees know."""
        if self._forest is not None:
            return {self._inputs.every[0].name: example(self._forest)}
        return self._inputs.example

    @property
    def drawn(self) -> frozenset[str]:
        """All but thresholds: categories are what they are, and columns differ."""
        return frozenset() if self._forest is not None else frozenset(self._inputs.example)

    def probes(self, signature: Signature) -> Iterable[Feeds]:
        """Beside thresholds where trees see the input itself; else unseen and missing values.

        And rows that the model remembers, some between and some beside them.

        Only what the original takes: an encoder that refuses unseen categories gets none.
        """
        if self._forest is not None:
            rows = beside_thresholds(self._forest), example(self._forest, 64, seed=1)
            yield from rows_for(signature, *rows)
            return
        yield from self._remembered(signature)
        if not all(spec.dynamic_batch for spec in signature.inputs):
            return
        yield self._inputs.example
        for one in self._inputs.every:
            for column in range(min(one.columns, PROBED_COLUMNS)):
                feeds = {name: array.copy() for name, array in self._inputs.example.items()}
                for value in one.odd:
                    feeds[one.name][: len(feeds[one.name]) // 2, column] = value
                    with contextlib.suppress(SourceError):
                        self._tried(feeds)
                        yield {name: array.copy() for name, array in feeds.items()}
                        yield {name: array[:1].copy() for name, array in feeds.items()}

    def _remembered(self, signature: Signature) -> Iterator[Feeds]:
        one = self._inputs.every[0]
        if self._inputs.frame or self._inputs.text or one.strings or one.category:
            return
        rows = remembered(self._model, one.columns)
        if not len(rows):
            return
        some = np.random.default_rng(0).permutation(rows)[:REMEMBERED]
        for block in (some, between(rows, REMEMBERED), beside(rows, REMEMBERED)):
            yield from rows_for(signature, self._settled(block.astype(np.float32)))

    def _settled(self, rows: np.ndarray) -> np.ndarray:
        """Those of ``rows`` that the model takes, and whose answer rounding does not decide.

        Two neighbours equally far, a value on the edge of a bin: moved by a few float32 steps,
        such rows are answered otherwise by the original itself.
        """
        name, rng = self._inputs.every[0].name, np.random.default_rng(0)
        step = NUDGE * np.nanmax(np.abs(rows), axis=0, initial=0.0)
        signs = rng.choice(np.array([-1, 1], np.float32), (WAYS, *rows.shape))
        moved = [rows, *(rows + step * signs), *(rows - step * signs)]
        try:
            answers = self._tried({name: np.concatenate(moved)})
        except SourceError:
            whole = rows[~np.isnan(rows).any(axis=1)]
            return whole[:0] if len(whole) == len(rows) else self._settled(whole)
        kept = np.ones(len(rows), bool)
        for array in answers.values():
            each = array.reshape(len(moved), len(rows), -1)
            same = each == each[0]
            if array.dtype.kind == "f":
                same = np.isclose(each, each[0], 5e-4, 5e-5, equal_nan=True)
            kept &= same.all(axis=(0, 2))
        return rows[kept]

    def _tried(self, feeds: Feeds) -> Feeds:
        """Few rows: threads would only get in each other's way. Raises ``SourceError``."""
        with threadpool_limits(1):
            return answer(self._model, self._inputs, feeds)

    def session(self, threads: int | None = None) -> Session:
        return _SklearnSession(
            self._asked, type(self._model).__name__, self._inputs, self._outputs, threads
        )

    @cached_property
    def _asked(self) -> Any:
        """The model that is asked about the cells of a table."""
        return with_cells(self._model)

    def export(self, options: ExportOptions) -> Exported:
        from onnxpress.sources._sklearn.export import export

        return export(self._model, self._last, self._forest, self._inputs, self._outputs, options)

    def fingerprint(self) -> str:
        """SHA-256 of the file, or the estimator's state, and the library's version."""
        state = self._digest or joblib.hash(self._model)
        return hashlib.sha256(f"{sklearn.__version__} {state}".encode()).hexdigest()

    def _first_row(self) -> Feeds:
        return {one.name: one.values[:1] for one in self._inputs.every}


class _SklearnSession(Session):
    """The estimator, one call at a time; ``threads`` bounds the libraries that it computes with."""

    def __init__(
        self, model: Any, name: str, inputs: Inputs, outputs: Feeds, threads: int | None
    ) -> None:
        super().__init__()
        self._model, self._name, self._inputs, self._threads = model, name, inputs, threads
        self._turn = threading.Lock()
        self._libraries = ThreadpoolController()  # to look for them takes milliseconds
        self.signature = Signature(
            tuple(one.spec("?") for one in inputs.every),
            tuple(
                TensorSpec(name, array.dtype.name, ("?", *array.shape[1:]))
                for name, array in outputs.items()
            ),
        )

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        with self._turn, self._libraries.limit(limits=self._threads):
            return answer(self._model, self._inputs, dict(feeds))

    def executed(self) -> tuple[Executed, ...]:
        return (Executed(self._name, "predict", "float64"),)


def answer(model: Any, inputs: Inputs, feeds: Feeds) -> Feeds:
    """The model's own outputs as the exported model has them. Raises ``SourceError``."""
    taken = inputs.as_taken(feeds)
    try:
        with _quiet():
            return {unlike(name, inputs): array for name, array in _outputs(model, taken).items()}
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SourceError(
            f"{type(model).__name__} raised {type(error).__name__}: {text}",
            "a fitted model that runs",
        ) from error


def unlike(name: str, inputs: Inputs) -> str:
    """``name``, with a number where a column is called so: ONNX has one space of names."""
    return f"{name}_1" if any(one.name == name for one in inputs.every) else name


def _outputs(model: Any, taken: Any) -> Feeds:
    if is_classifier(model):
        if isinstance(getattr(model, "classes_", None), list):
            raise SourceError(f"{type(model).__name__} has several labels at once", "one label")
        strings = isinstance((classes_of(model) or (0,))[0], str)
        label = np.asarray(model.predict(taken)).astype(object if strings else np.int64)
        if label.ndim != 1:
            raise SourceError(f"{type(model).__name__} has several labels at once", "one label")
        if not hasattr(model, "predict_proba"):
            return {LABEL: label}
        return {LABEL: label, PROBABILITIES: np.array(model.predict_proba(taken), np.float32)}
    if is_clusterer(model) or is_outlier_detector(model):
        return {LABEL: np.asarray(model.predict(taken)).astype(np.int64)}
    if is_regressor(model) or (hasattr(model, "predict") and not hasattr(model, "transform")):
        answer = np.array(model.predict(taken), np.float32)
        return {PREDICTION: answer.reshape(len(answer), -1)}
    if not hasattr(model, "transform"):
        raise SourceError(f"a {type(model).__name__}", "a model with predict or transform")
    made = model.transform(taken)
    dense = made.toarray() if hasattr(made, "toarray") else np.asarray(made)
    return {TRANSFORMED: np.array(dense, np.float32)}


def last_step(model: Any) -> Any:
    """The estimator that answers."""
    while True:
        model = bare(model)
        if not hasattr(model, "steps"):
            return model
        model = model.steps[-1][1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Names of columns, unseen categories: warnings that the feeds bring about, not the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
