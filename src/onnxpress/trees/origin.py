"""A model whose trees are known, as an origin: XGBoost's and LightGBM's."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxpress.engine import Executed, Session
from onnxpress.errors import InputError
from onnxpress.model import Model
from onnxpress.processing import Processing
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.source import Exported, ExportOptions, Origin
from onnxpress.trees.cells import cells_of, widened
from onnxpress.trees.digits import require_float32
from onnxpress.trees.forest import Forest
from onnxpress.trees.graph import INPUT, LABEL, PREDICTION, PROBABILITIES, model_of
from onnxpress.trees.probes import beside_thresholds, example

EXAMPLE_ROWS = 16
EXPORTER = "trees"
"""How conversions by our own writer are called."""

Predict = Callable[[np.ndarray, int | None], np.ndarray]
"""float32 or float64 [batch, features] and a number of threads → the library's own answer.

Probabilities [batch, classes] of a classifier, otherwise predictions [batch] or [batch, targets].
"""
Classify = Callable[[np.ndarray, int | None], tuple[np.ndarray, np.ndarray]]
"""The same of a classifier: labels [batch] and probabilities [batch, classes]."""


class ForestOrigin(Origin):
    """``predict`` is the reference; the forest is what gets exported."""

    def __init__(
        self,
        kind: str,
        made_by: str,
        forest: Forest,
        predict: Predict | Classify,
        code: bytes,
        columns: Sequence[str] = (),
    ) -> None:
        """``made_by`` names library and version; ``code`` is the model as bytes.

        ``columns`` are those of the table that the model was trained on, where it knows them.
        """
        self.kind = kind
        self.baseline = f"{made_by.partition(' ')[0]} predict"
        if columns:
            self.processing = Processing(columns=tuple(columns))
        self._made_by, self._forest, self._predict, self._code = made_by, forest, predict, code

    @property
    def example(self) -> Feeds:
        """Values near the thresholds of each feature."""
        return {INPUT: example(self._forest, EXAMPLE_ROWS)}

    def probes(self, signature: Signature) -> Iterable[Feeds]:
        """Rows beside thresholds, and rows that mix the values of many splits."""
        return rows_for(
            signature, beside_thresholds(self._forest), example(self._forest, 64, seed=1)
        )

    def session(self, threads: int | None = None) -> Session:
        return _ForestSession(self._forest, self._predict, threads, self._made_by)

    def export(self, options: ExportOptions) -> Exported:
        """Raises ``InputError`` for shapes that do not fit.

        ``SourceError`` where the thresholds need more digits than float32 has.
        """
        require_float32(self._forest, self.processing.columns if self.processing else ())
        batch = batch_of(options, {INPUT: self._forest.features})
        proto = model_of(self._forest, options.opset, batch)
        model = Model(ir.from_proto(proto))
        model.metadata["onnxpress.exporter"] = f"{EXPORTER} of {self._made_by}"
        return Exported(model, EXPORTER)

    def fingerprint(self) -> str:
        """SHA-256 of the model and the library's version."""
        return hashlib.sha256(self._made_by.encode() + self._code).hexdigest()


class _ForestSession(Session):
    """The library itself, one call at a time: not all of its predictors are thread-safe."""

    def __init__(
        self, forest: Forest, predict: Predict | Classify, threads: int | None, made_by: str
    ) -> None:
        super().__init__()
        self._forest, self._predict, self._threads = forest, predict, threads
        self._made_by, self._turn = made_by, threading.Lock()
        self._cells = cells_of(forest)
        outputs = [TensorSpec(PREDICTION, "float32", ("?", len(forest.base)))]
        if forest.classes is not None:
            label = "object" if isinstance(forest.classes[0], str) else "int64"
            outputs = [
                TensorSpec(LABEL, label, ("?",)),
                TensorSpec(PROBABILITIES, "float32", ("?", len(forest.classes))),
            ]
        inputs = (TensorSpec(INPUT, "float32", ("?", forest.features)),)
        self.signature = Signature(inputs, tuple(outputs))

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        features = feeds[INPUT]
        if self._cells:
            features = widened(self._cells, features)
        with self._turn:
            answer = self._predict(features, self._threads)
        if isinstance(answer, tuple):
            label, probabilities = answer
            strings = self.signature.outputs[0].dtype == "object"
            return {
                LABEL: np.asarray(label).astype(object if strings else np.int64),
                PROBABILITIES: np.array(probabilities, np.float32),
            }
        rows = len(feeds[INPUT])
        return {PREDICTION: np.array(answer, np.float32).reshape(rows, -1)}

    def executed(self) -> tuple[Executed, ...]:
        return (Executed(self._made_by, "predict", "unknown"),)


def rows_for(signature: Signature, *blocks: np.ndarray) -> Iterable[Feeds]:
    """``blocks`` of rows as feeds of the model's only input, cut to its batch where it is fixed."""
    spec = signature.inputs[0]
    size = spec.shape[0] if spec.shape else None
    for block in blocks:
        if not isinstance(size, int):
            if len(block):
                yield {spec.name: block}
            continue
        for start in range(0, len(block) - size + 1, size):
            yield {spec.name: block[start : start + size]}


def batch_of(options: ExportOptions, columns: Mapping[str, int]) -> int | str:
    """The first dimension that ``options`` ask for; ``columns`` tells each input's second one.

    ``--static`` fixes it to 1. Raises ``InputError`` where ``--shape`` does not fit, and for an
    exporter of another framework.
    """
    if options.exporter != "auto":
        raise InputError(f"--exporter {options.exporter}", "auto: the others are PyTorch's")
    batches: set[int | str] = set()
    for name, shape in options.shapes.items():
        if name not in columns:
            raise InputError(f"--shape names input '{name}'", f"one of {', '.join(columns)}")
        if len(shape) != 2 or shape[1] != columns[name]:
            given = ",".join(map(str, shape))
            raise InputError(f"--shape {name}={given}", f"{name}=batch,{columns[name]}")
        batches.add(shape[0])
    if len(batches) > 1:
        raise InputError(
            f"--shape gives the batches {', '.join(sorted(map(str, batches)))}", "one batch"
        )
    return batches.pop() if batches else 1 if options.static else "batch"
