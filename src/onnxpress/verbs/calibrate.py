"""Watches a model's activations on samples and gathers the facts that passes need."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from onnxpress import registry
from onnxpress.calibrator import Calibrator, Range
from onnxpress.engine import Engine, Executed, require
from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Kernels, Pass, Ranges, Recipe, Rows
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.spelling import read
from onnxpress.verbs.observe import Seen, observe
from onnxpress.verbs.saved_ranges import SavedRanges

ENGINE = "onnxruntime"
HOLLOW_BYTES = 64 << 10
"""Weights of more bytes are large: nothing that ONNX Runtime rewrites looks into them."""


class Gatherer:
    """Observes each graph at most once, whatever is asked about it, and however often.

    Graphs are the same where the names of their values are. Of a graph that was observed for its
    ranges alone, rows are observed when they are asked for.
    """

    def __init__(
        self,
        batches: Callable[[], Iterable[Feeds]],
        threads: int | None = None,
        given: SavedRanges | None = None,
    ) -> None:
        self.batches, self._threads, self._given = batches, threads, given
        self._seen: dict[tuple[object, ...], tuple[Seen, int]] = {}

    def __call__(self, step: Pass, model: Model) -> Facts:
        """What ``step`` needs about ``model``; nothing is run where it needs nothing.

        Raises ``EngineError`` where ONNX Runtime is missing or cannot run the model.
        """
        wanted = [need for need in step.needs() if isinstance(need, Ranges)]
        rows = max((need.count for need in step.needs() if isinstance(need, Rows)), default=0)
        found: dict[Ranges, Mapping[str, Range]] = {}
        if self._given is not None:
            found = {need: self._given.of(need) for need in wanted}
            wanted = []
        kernels = executed(model) if any(isinstance(n, Kernels) for n in step.needs()) else ()
        if not (wanted or rows):
            return Facts(found, kernels=kernels)
        seen = self.seen(model, rows)
        return Facts(found | {need: ranges(seen, need) for need in wanted}, seen.rows, kernels)

    def seen(self, model: Model, rows: int = 0) -> Seen:
        """What was observed of ``model``, which runs on the samples where that was not done yet."""
        key = tuple(value.name for node in model.ir.graph for value in node.outputs)
        known = self._seen.get(key)
        if known is None or known[1] < rows:
            known = observe(model, self.batches(), self._threads, rows), rows
            self._seen[key] = known
        return known[0]


def gather(step: Pass, model: Model, batches: Callable[[], Iterable[Feeds]]) -> Facts:
    """The facts that ``step`` needs about ``model``, for once: see ``Gatherer``."""
    return Gatherer(batches)(step, model)


def applied(
    recipe: Recipe, model: Model, gathered: Callable[[Pass, Model], Facts]
) -> tuple[Model, Change]:
    """``model`` after the passes of ``recipe``, one after another, and what all of them changed.

    ``gathered`` tells the facts that a pass needs about a model. They hold for that graph alone:
    a pass behind one that changed it gets new ones.
    """
    facts: Facts | None = None
    changes = []
    for index, step in enumerate(recipe.passes):
        if step.needs() and facts is None:
            facts = gathered(Recipe(recipe.passes[index:]), model)
        model, change = step.apply(model, facts)
        changes.append(change)
        if change.changed:
            facts = None
    return model, Change.all(changes)


def ranges(seen: Seen, need: Ranges) -> dict[str, Range]:
    """Of every tensor that was seen, as the calibrator that is asked for chooses it."""
    calibrator = read(Calibrator, "calibrators", need.calibrator)
    return {name: calibrator.range(each, need.dtype) for name, each in seen.tensors.items()}


def executed(model: Model) -> tuple[Executed, ...]:
    """The kernels that ONNX Runtime runs for ``model``. Raises ``EngineError`` where it cannot.

    What it fuses depends on the sizes of large weights, not on their numbers: it gets a file of
    zeros in their place, a hole that takes no room on disk or in memory.
    """
    engine = registry.create(Engine, "engines", ENGINE)
    require(engine, ENGINE)
    options = {"session.disable_prepacking": "1"}
    settings = Settings(ENGINE, options=options, custom_ops=model.custom_ops)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(_hollow(model, Path(folder)).ir, path)
        with engine.open(path, settings) as session:
            return session.executed()


def _hollow(model: Model, folder: Path) -> Model:
    shell, largest = model.clone(), 0
    for graph in shell.ir.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None:
                continue
            large = len(tensor.shape) > 1 and tensor.nbytes >= HOLLOW_BYTES
            if not large or not tensor.dtype.is_floating_point():
                if isinstance(tensor, ir.ExternalTensor):  # its file is elsewhere
                    (value.const_value,) = ir.external_data.convert_tensors_from_external([tensor])
                continue
            largest = max(largest, tensor.nbytes)
            value.const_value = ir.ExternalTensor(
                "zeros", 0, tensor.nbytes, tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()), name=str(value.name), base_dir=folder,
            )  # fmt: skip
    with (folder / "zeros").open("wb") as file:
        file.truncate(largest)
    return shell
