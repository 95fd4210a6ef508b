"""The engine that computes nothing: zeros of the right names, types and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from onnxpress.engine import Availability, Engine, Form, ModelFacts, Session
from onnxpress.machine import Machine
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature


class Null(Engine):
    """What everything around an engine costs, and what a useless model scores."""

    def available(self) -> Availability:
        return Availability(True)

    def forms(self, model: ModelFacts, machine: Machine) -> Sequence[Form]:
        """None: it is never worth trying."""
        return ()

    def open(self, artifact: Path, settings: Settings) -> Session:
        """Needs onnx-ir to read the signature. Raises ``ModelError`` as ``load`` does."""
        from onnxpress.model import load

        return _NullSession(load(artifact).signature)


class _NullSession(Session):
    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.signature = signature

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        """Zeros; a free dimension takes the size it has in the feeds, otherwise 1."""
        sizes: dict[int | str, int] = {}
        for spec in self.signature.inputs:
            sizes.update(zip(spec.shape or (), np.shape(feeds[spec.name]), strict=False))
        return {
            spec.name: np.zeros(
                [dim if isinstance(dim, int) else sizes.get(dim, 1) for dim in spec.shape or ()],
                spec.dtype,
            )
            for spec in self.signature.outputs
        }
