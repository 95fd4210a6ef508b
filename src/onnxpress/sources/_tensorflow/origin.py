"""A TensorFlow program as an origin, loaded when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from onnxpress.engine import Executed, Session
from onnxpress.errors import SourceError
from onnxpress.signature import Feeds, TensorSpec
from onnxpress.source import Exported, ExportOptions, OpenOptions, Origin
from onnxpress.sources._tensorflow.framework import reason, tensorflow, use_threads
from onnxpress.sources._tensorflow.program import (
    Program,
    Traced,
    told_inputs,
    trace,
    wanted_inputs,
)

FREE_SIZE = 16
"""Size of the example's free axes, where nothing tells one."""


@dataclass(frozen=True)
class Kind:
    """What distinguishes the two sources: the origin's ``kind`` and ``baseline``."""

    kind: str
    baseline: str


class TensorFlowOrigin(Origin):
    """A model in inference mode, traced once. Its session runs it in TensorFlow.

    ``load`` makes the program and is called once, when something first needs it: TensorFlow
    takes its number of threads only before that. ``digest`` is the fingerprint.
    """

    def __init__(
        self,
        kind: Kind,
        load: Callable[[], Program],
        digest: Callable[[Program | None], str],
        options: OpenOptions,
    ) -> None:
        self.kind, self.baseline = kind.kind, kind.baseline
        self._load, self._digest, self._options = load, digest, options
        self._lock = threading.RLock()
        self._loaded: Program | None = None
        self._traced: Traced | None = None

    @property
    def example(self) -> Feeds:
        """One row of seeded values; free axes are 16 long, or as the image size says."""
        rng = np.random.default_rng(0)
        sizes = self._sizes()
        return {spec.name: self._values(spec, rng, sizes) for spec in self._program.inputs}

    def session(self, threads: int | None = None) -> Session:
        if threads:
            use_threads(threads)
        return _Session(self._program, self._trace())

    def export(self, options: ExportOptions) -> Exported:
        from onnxpress.sources._tensorflow.export import export

        inputs = wanted_inputs(self._program, options, self.example)
        same = inputs == self._program.inputs
        traced = self._trace() if same else trace(self._program, inputs)
        return export(self._program, traced, options)

    def fingerprint(self) -> str:
        """SHA-256 of the files, or of a live model's structure, code and weights."""
        return self._digest(self._loaded)

    def close(self) -> None:
        with self._lock:
            self._loaded = self._traced = None

    @property
    def _program(self) -> Program:
        with self._lock:
            if self._loaded is None:
                loaded = self._load()
                inputs = told_inputs(loaded.inputs, self._options.inputs)
                self._loaded = Program(
                    loaded.name, inputs, loaded.call, loaded.integers, loaded.weights
                )
            return self._loaded

    def _trace(self) -> Traced:
        with self._lock:
            if self._traced is None:
                self._traced = trace(self._program, self._program.inputs)
            return self._traced

    def _sizes(self) -> dict[int, int]:
        """Axis → size of the images that ``processing`` makes."""
        image = self._options.processing.image if self._options.processing else None
        size = (image.crop or image.size) if image else None
        return {1: size[0], 2: size[1]} if size else {}

    def _values(
        self, spec: TensorSpec, rng: np.random.Generator, sizes: Mapping[int, int]
    ) -> np.ndarray:
        """One row: normal floats, integers that the model knows, bytes, masks of ones."""
        shape = [
            dim if isinstance(dim, int) else 1 if axis == 0 else sizes.get(axis, FREE_SIZE)
            for axis, dim in enumerate(spec.shape or ())
        ]
        if spec.dtype.startswith(("float", "bfloat")):
            return rng.standard_normal(shape).astype(spec.dtype)
        if "mask" in spec.name:
            return np.ones(shape, spec.dtype)
        few = 256 if spec.dtype == "uint8" else 2  # bytes are pixels
        return rng.integers(0, self._program.integers.get(spec.name, few), shape).astype(spec.dtype)


class _Session(Session):
    """The traced function itself; TensorFlow's threads are the process's."""

    def __init__(self, program: Program, traced: Traced) -> None:
        super().__init__()
        self._program, self._concrete = program, traced.concrete
        self._tf = tensorflow()
        self.signature = traced.signature

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        tf = self._tf
        try:
            tensors = [tf.constant(feeds[spec.name]) for spec in self.signature.inputs]
            outputs = self._concrete(*tensors)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in feeds.items())
            raise SourceError(
                f"{self._program.name} failed to run on {shapes} ({reason(error)})",
                "a model that takes such sizes",
                "fix those that it needs with --shape",
            ) from error
        names = [spec.name for spec in self.signature.outputs]
        # A copy: TensorFlow hands out its own memory.
        return {name: np.array(o.numpy()) for name, o in zip(names, outputs, strict=True)}

    def executed(self) -> tuple[Executed, ...]:
        """One for the whole model: the type of its first floating-point output."""
        types = [s.dtype for s in self.signature.outputs if "float" in s.dtype]
        return (Executed(self._program.name, "tf.function", types[0] if types else "unknown"),)
