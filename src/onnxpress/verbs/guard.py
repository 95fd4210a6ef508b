"""The original, against which rewritten models are held: the same outputs, no kernel more."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np

from onnxpress import registry
from onnxpress.engine import Engine, Executed, Session, require
from onnxpress.errors import EngineError, InputError
from onnxpress.model import MAPPED_BYTES, Model
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.verbs.calibrate import executed
from onnxpress.verbs.verify import Comparison, Mismatch, Verified

RTOL = 1e-4
"""How far a rewrite that is exact in real numbers may move an output, relative to its magnitude."""
ENGINE = "onnxruntime"
ORIGINAL = "before.onnx"
AS_WRITTEN = {"graph_optimization_level": "ORT_DISABLE_ALL", "session.disable_prepacking": "1"}
"""ONNX Runtime's options for a graph as it is: weights packed for speed are held twice."""
HELD_BYTES = 64 << 20
"""How much of the original's answers is in memory while a rewritten model runs."""

_Answer = tuple[Feeds, Feeds]


class Guard:
    """Holds rewritten models against ``model`` on ``batches``; a context manager.

    Raises ``EngineError`` where ONNX Runtime is missing or cannot run ``model`` itself.
    """

    def __init__(self, model: Model, batches: Callable[[], Iterable[Feeds]]) -> None:
        self.model, self._batches = model, batches
        self._engine = registry.create(Engine, "engines", ENGINE)
        require(self._engine, ENGINE)
        self._kept: Sequence[_Answer] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="onnxpress-")

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def compare(self, model: Model) -> Verified:
        """The outputs of ``model`` against the original's.

        Without the engine's own rewrites: they may differ between the two graphs by more than
        ours. The two are never in memory together.
        """
        comparison = Comparison(RTOL)
        path = self._write(model, "after.onnx")
        for answers in self._answers():
            try:
                with self._open(path) as session:
                    for feeds, expected in answers:
                        comparison.add(feeds, expected, session)
            except EngineError as error:
                fault = Mismatch("", (), "", "", {}, str(error))
                return Verified(False, RTOL, 0.0, math.inf, math.inf, (), fault)
        return comparison.verified()

    def _answers(self) -> Iterator[Sequence[_Answer]]:
        """What the original answers, in parts; if it is one part, it is kept."""
        if self._kept is not None:
            yield self._kept
            return
        batches, count = iter(self._batches()), 0
        while part := self._part(batches):
            yield part
            count, last = count + 1, part
        if count == 1:
            self._kept = last

    def _part(self, batches: Iterator[Feeds]) -> Sequence[_Answer]:
        part: list[_Answer] = []
        size = 0
        for feeds in batches:
            with self._open_original() as session:
                for following in itertools.chain([feeds], batches):
                    expected = self._expected(session, following)
                    _require_tensors(expected)
                    part.append((following, expected))
                    arrays = (*following.values(), *expected.values())
                    size += sum(array.nbytes for array in arrays)
                    if size > HELD_BYTES:
                        return part
        return part

    def _open_original(self) -> Session:
        try:
            return self._open(self._original)
        except EngineError as error:
            raise self._cannot("open", error) from error

    def _open(self, path: Path) -> Session:
        settings = Settings(ENGINE, options=AS_WRITTEN, custom_ops=self.model.custom_ops)
        return self._engine.open(path, settings)

    def more_kernels(self, model: Model) -> str:
        """What ONNX Runtime executes for ``model`` beyond the original's kernels, if anything.

        Counted after its optimisation at load time: it is there that a rewrite may cost a fusion.
        """
        before = self._kernels
        try:
            after = executed(model)
        except EngineError as error:
            return f"ONNX Runtime cannot optimise it ({error})"
        if len(after) <= len(before):
            return ""
        counts = Counter(kernel.op for kernel in after)
        counts.subtract(Counter(kernel.op for kernel in before))
        more = ", ".join(f"{count} {op}" for op, count in counts.most_common() if count > 0)
        return f"ONNX Runtime would execute {len(after)} kernels, not {len(before)}: {more} more"

    @cached_property
    def _original(self) -> Path:
        return self._write(self.model, ORIGINAL)

    def _write(self, model: Model, name: str) -> Path:
        return model.clone().save(Path(self._folder.name) / name, MAPPED_BYTES)

    @cached_property
    def _kernels(self) -> Sequence[Executed]:
        try:
            return executed(self.model)
        except EngineError as error:
            raise self._cannot("open", error) from error

    def _expected(self, session: Session, feeds: Feeds) -> Feeds:
        try:
            return session.run(feeds)
        except EngineError as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise self._cannot("run", error, f" on {shapes}") from error

    def _cannot(self, verb: str, error: EngineError, where: str = "") -> EngineError:
        """What ONNX Runtime says of the original, and what to do."""
        skip = "or skip the proof with --no-verify"
        if error.fix:  # it says itself what is lacking
            found = error.found.replace(ORIGINAL, "the original model")
            return EngineError(found, error.expected, f"{error.fix}, {skip}")
        free = [dim for spec in self.model.signature.inputs for dim in spec.shape or ()]
        named = [dim for dim in free if isinstance(dim, str) and dim != "?"]
        fixes = " ".join(f"--fix {dim}=SIZE" for dim in dict.fromkeys(named))
        ways = f"--samples or {fixes}" if named else "--samples"
        reason = error.found.partition(" (")[2].removesuffix(")") or error.found
        return EngineError(
            f"ONNX Runtime cannot {verb} the original model{where}: {reason}",
            "a model that it runs",
            f"try {ways if verb == 'run' else '--custom-ops LIB.so or onnxpress check'}, {skip}",
        )


def _require_tensors(answer: Feeds) -> None:
    for name, array in answer.items():
        if not isinstance(array, np.ndarray):
            raise InputError(
                f"output '{name}' is no tensor", "tensors, which can be compared",
                "--no-verify optimises without a proof",
            )  # fmt: skip
