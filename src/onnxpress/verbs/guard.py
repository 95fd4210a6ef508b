"""The original, against which rewritten models are held: the same outputs, no kernel more."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

from onnxpress import registry
from onnxpress.engine import Engine, Executed, require
from onnxpress.errors import EngineError
from onnxpress.model import Model
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.verbs.calibrate import executed
from onnxpress.verbs.verify import Mismatch, Verified, compare

RTOL = 1e-4
"""How far a rewrite that is exact in real numbers may move an output, relative to its magnitude."""
ENGINE = "onnxruntime"


class Guard:
    """Holds rewritten models against ``model`` on ``batches``; a context manager.

    Raises ``EngineError`` where ONNX Runtime is missing or cannot run ``model`` itself.
    """

    def __init__(self, model: Model, batches: Callable[[], Iterable[Feeds]]) -> None:
        self.model, self._batches = model, batches
        self._engine = registry.create(Engine, "engines", ENGINE)
        require(self._engine, ENGINE)
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

        Without the engine's own rewrites: they may differ between the two graphs by more than ours.
        """
        plain = {"graph_optimization_level": "ORT_DISABLE_ALL"}
        settings = Settings(ENGINE, options=plain, custom_ops=self.model.custom_ops)
        with self._engine.open(self._original, settings) as one:
            try:
                two = self._engine.open(self._written(model), settings)
            except EngineError as error:
                fault = Mismatch("", (), "", "", {}, str(error))
                return Verified(False, RTOL, 0.0, math.inf, math.inf, (), fault)
            with two:
                return compare(one, two, self._batches(), RTOL)

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
        return self.model.clone().save(Path(self._folder.name) / "before.onnx")

    def _written(self, model: Model) -> Path:
        return model.clone().save(Path(self._folder.name) / "after.onnx")

    @cached_property
    def _kernels(self) -> Sequence[Executed]:
        return executed(self.model)
