"""Ways from texts to normalised vectors, each in a process of its own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from onnxpress import registry
from onnxpress.batching import predictions
from onnxpress.engine import Executed, Session
from onnxpress.processing import Processing
from onnxpress.runner import Artifact, InProcess, Target, open_target, peak_rss_bytes
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.source import Source
from onnxpress.task import Task

TEXTS, VECTORS = "texts", "vectors"
SIGNATURE = Signature(
    (TensorSpec(TEXTS, "object", ("batch",)),), (TensorSpec(VECTORS, "float32", ("batch", None)),)
)
LEAD = 16
"""Texts of the call that begins a block and never counts: enough to fill the caches again."""


@dataclass(frozen=True)
class Way:
    """``target`` is a file, the model itself, or what ``SentenceTransformer`` loads (a ``str``).

    ``floor`` is the mean cosine to the reference that it must have to be timed.
    """

    name: str
    target: Target | str
    processing: Processing
    floor: float
    precision: str = "float32"
    size_bytes: int = 0
    threads: int = 2

    @property
    def engine(self) -> str:
        """What runs it."""
        return self.target.settings.engine if isinstance(self.target, Artifact) else "torch"

    def open(self) -> Session:
        """In this process."""
        return Encode(self) if isinstance(self.target, str) else Embed(self, self.target)


class Embed(Session):
    """Tokens, batches, model, rows as a bundle's ``predict`` does it, whatever runs the model.

    Pooling over the mask is in the model: PyTorch's has it as a module, ONNX's in its graph.
    """

    signature = SIGNATURE

    def __init__(self, way: Way, target: Target) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._model, _ = open_target(target, self._stack)
        task = registry.create(Task, "tasks", "text_embedding")
        self._bound = task.bind(self._model.signature, way.processing)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        records = map(Record, feeds[TEXTS].tolist())
        rows = predictions(self._bound, self._model, self._model.signature, records)
        return {VECTORS: normalised(np.asarray(self._bound.gather(list(rows))))}

    def executed(self) -> tuple[Executed, ...]:
        return self._model.executed()

    def close(self) -> None:
        super().close()
        self._stack.close()


class Encode(Session):
    """``SentenceTransformer.encode`` as it comes: batches of 32, sorted by length."""

    signature = SIGNATURE

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._model = sentence_transformer(str(way.target))
        import torch

        torch.set_num_threads(way.threads)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        texts = feeds[TEXTS].tolist()
        vectors = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return {VECTORS: np.asarray(vectors)}


class Remote:
    """A way in a process of its own: the ``Runner`` that ``onnxpress.verbs.measure`` times."""

    signature = SIGNATURE
    load_ms = None

    def __init__(self, way: Way) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        self._pool.submit(_open, way).result()

    def run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        return self._ask("run", feeds)  # type: ignore[no-any-return]

    def time(
        self,
        feeds: Mapping[str, np.ndarray],
        seconds: float,
        min_calls: int = 1,
        requests: int = 1,
    ) -> list[float]:
        """As ``Runner.time``; the first call has no more than ``LEAD`` texts: it never counts."""
        if len(feeds[TEXTS]) <= LEAD:
            return self._ask("time", feeds, seconds, min_calls)  # type: ignore[no-any-return]
        calls: list[float] = self._ask("time", feeds_of(feeds[TEXTS][:LEAD].tolist()), 0.0)
        return calls if min_calls == 1 else calls + self._ask("time", feeds, 0.0, min_calls - 1)

    def executed(self) -> tuple[Executed, ...]:
        return self._ask("executed")  # type: ignore[no-any-return]

    def fallbacks(self) -> tuple[str, ...]:
        return ()

    def peak_rss_bytes(self) -> int:
        return self._pool.submit(peak_rss_bytes).result()

    def close(self) -> None:
        self._pool.shutdown()

    def _ask(self, method: str, *arguments: object) -> Any:
        return self._pool.submit(_answer, method, *arguments).result()


def sentence_library() -> Any:
    """The package ``sentence_transformers``, imported as onnxpress does.

    By itself it imports torchvision where there is one, even one that cannot be.
    """
    registry.create(Source, "sources", "sentence_transformers").warm("sentence_transformers")
    return importlib.import_module("sentence_transformers")


def sentence_transformer(model: str) -> Any:
    """A ``SentenceTransformer`` on the CPU."""
    return sentence_library().SentenceTransformer(model, device="cpu")


def feeds_of(texts: Sequence[str]) -> Feeds:
    """What a way takes."""
    return {TEXTS: np.array(texts, object)}


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Each row over its length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


_OPENED: list[InProcess] = []
"""Of a way's own process: the one that it opened."""


def _open(way: Way) -> None:
    _OPENED.append(InProcess(way.open()))


def _answer(method: str, *arguments: object) -> object:
    return getattr(_OPENED[0], method)(*arguments)
