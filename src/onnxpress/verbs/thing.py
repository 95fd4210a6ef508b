"""Thing: something to bench, as people name it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from onnxpress.errors import InputError
from onnxpress.machine import this_machine
from onnxpress.model import load
from onnxpress.processing import Processing
from onnxpress.runner import Artifact, OriginRef
from onnxpress.source import OpenOptions, open_source
from onnxpress.verbs.measure import Candidate
from onnxpress.wishes import Wishes


@dataclass(frozen=True)
class Thing:
    """Something to bench, by name: a file with settings, or an origin by reference.

    ``task`` and ``processing`` are what the thing itself knows, None where it knows nothing;
    ``twin`` is its name as its framework's compiler makes it, empty where there is none.
    """

    name: str
    target: Artifact | OriginRef
    engine: str
    requested: str
    size_bytes: int
    task: str | None = None
    processing: Processing | None = None
    twin: str = ""

    @classmethod
    def of(cls, ref: object, wishes: Wishes, options: OpenOptions) -> Thing:
        """An ONNX file runs as ``wishes`` say; other references on their framework."""
        if not isinstance(ref, str | Path):
            raise InputError(f"a {type(ref).__name__} cannot be benched", "a reference or a file")
        text = str(ref)
        if text.endswith(".onnx"):
            model = load(text)
            library = options.custom_ops
            settings = wishes.settings.with_custom_ops(library)
            target = Artifact(Path(text), settings)
            name = f"{text} on {settings.engine}"
            return cls(name, target, settings.engine, "float32", model.file_bytes)
        threads = wishes.threads or this_machine().threads  # as the engines do
        with open_source(text, options) as origin:
            reference = OriginRef(text, options, threads, origin.fingerprint())
            name = f"{text} ({origin.baseline})"
            twin = f"{text} ({origin.compiler})" if origin.compiler else ""
            known = origin.processing
            return cls(name, reference, origin.kind, "float32", 0, processing=known, twin=twin)

    def compiled(self) -> Thing:
        """The same model, compiled. Raises ``InputError`` where its framework has no compiler."""
        if not self.twin or not isinstance(self.target, OriginRef):
            raise InputError(
                f"--compile with {self.name}", "a PyTorch reference as the baseline",
                "give it with --against, or leave out --compile",
            )  # fmt: skip
        return replace(self, name=self.twin, target=replace(self.target, compiled=True), twin="")

    @property
    def candidate(self) -> Candidate:
        at_once = self.target.settings.requests if isinstance(self.target, Artifact) else 1
        told = (self.engine, self.requested, self.size_bytes, at_once)
        return Candidate(self.name, self.target, *told)
