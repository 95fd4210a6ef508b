"""A quantised model beside the float one, both from their saved files."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onnxpress.engine import Executed
from onnxpress.errors import InputError
from onnxpress.model import Model, load
from onnxpress.progress import Progress
from onnxpress.runner import Artifact, Runner
from onnxpress.samples import Record, Samples
from onnxpress.settings import Settings
from onnxpress.stacking import static_batch
from onnxpress.task import Bound, Quality
from onnxpress.verbs.measure import Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.score import score

SCORING_ROWS = 8
FLOAT, QUANTIZED = "float32", "quantized"


@dataclass
class Comparison(contextlib.AbstractContextManager["Comparison"]):
    """Scores and times quantised models, one after another, against ``model`` in float.

    ``sizes`` are those of the two files, in bytes.
    """

    model: Model
    bound: Bound
    samples: Samples
    settings: Settings
    quantized_settings: Settings
    progress: Progress
    sizes: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Comparison:
        self._stack = contextlib.ExitStack()
        folder = tempfile.TemporaryDirectory(prefix="onnxpress-")
        self._folder = Path(self._stack.enter_context(folder))
        self._targets: dict[str, Artifact] = {}
        self._runners: dict[str, Runner] = {}
        self._current: Model | None = None
        self._open(FLOAT, self.model, self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        for runner in self._runners.values():
            runner.close()
        self._stack.close()

    def quality(self, quantized: Model) -> Quality:
        """Raises ``InputError`` where the engine cannot run it."""
        self._use(quantized)
        qualities, failures = score(
            self._runners,
            FLOAT,
            self.bound,
            self.samples,
            self._folder,
            SCORING_ROWS,
            self.progress,
        )
        self._refuse(failures)
        return qualities[QUANTIZED]

    def measured(self, quantized: Model) -> Measured:
        """Times of the float model and of ``quantized``, each in a process of its own."""
        self._use(quantized)
        candidates = [
            Candidate(key, target, self.settings.engine, key, self.sizes[key])
            for key, target in self._targets.items()
        ]
        batch = static_batch(self.model.signature) or 1
        found = measure(
            candidates,
            self.bound.encode([_first(self.samples)] * batch),
            baseline=FLOAT,
            batch=batch,
            progress=self.progress,
        )
        self._refuse(found.failures)
        return found

    def executed(self) -> tuple[Executed, ...]:
        """The kernels of the last quantised model."""
        return self._runners[QUANTIZED].executed()

    def _use(self, quantized: Model) -> None:
        """Let ``quantized`` take the place of the one before."""
        if self._current is quantized:
            return
        if QUANTIZED in self._runners:
            self._runners.pop(QUANTIZED).close()
            shutil.rmtree(self._targets[QUANTIZED].path.parent)
        self._open(QUANTIZED, quantized, self.quantized_settings)
        self._current = quantized

    def _open(self, name: str, model: Model, settings: Settings) -> None:
        folder = self._folder / name
        folder.mkdir()
        path = model.clone().save(folder / f"{name}.onnx")
        self._targets[name] = Artifact(path, settings)
        self._runners[name] = open_runner(self._targets[name])
        self.sizes[name] = load(path).file_bytes

    def _refuse(self, failures: Mapping[str, str]) -> None:
        for why in failures.values():
            raise InputError(why, f"a model that {self.settings.engine} runs")


def _first(samples: Iterable[Record]) -> Record:
    return next(iter(samples))
