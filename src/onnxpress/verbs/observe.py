"""Runs a model on samples and keeps what its float activations looked like."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxpress import registry
from onnxpress.engine import Engine, require
from onnxpress.model import Model
from onnxpress.observed import Channels, Moments, Observed
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.verbs.taps import Taps

ENGINE = "onnxruntime"
ROWS_VALUES, FEWEST_ROWS = 1 << 18, 32
"""Of one activation rows of no more values altogether are kept, but so many rows at least."""


@dataclass
class Seen:
    """``tensors``: of every float activation; ``rows``: of what MatMul and Gemm multiply.

    ``moments``: of the channels of what linear operators with constant weights read.
    """

    tensors: dict[str, Observed] = field(default_factory=dict)
    rows: dict[str, Channels] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)


def observe(
    model: Model,
    batches: Iterable[Feeds],
    threads: int | None = None,
    rows: int = 0,
    seed: int = 0,
    *,
    channels: bool = False,
) -> Seen:
    """Run ``model`` on each batch; with ``rows`` that many rows of each matrix are kept as well.

    ``channels`` tells whether the moments of each channel are. Samples are drawn by ``seed``.
    Raises ``EngineError`` where ONNX Runtime is missing or cannot run the model, ``SamplesError``
    for a batch that does not fit.
    """
    engine = registry.create(Engine, "engines", ENGINE)
    require(engine, ENGINE)
    taps = Taps(model, with_rows=rows > 0, with_channels=channels)
    rng, seen = np.random.default_rng(seed), Seen()
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = taps.model.save(Path(folder) / "tapped.onnx")
        settings = Settings(ENGINE, threads=threads, custom_ops=model.custom_ops)
        with engine.open(path, settings) as session:
            for feeds in batches:
                model.signature.check(feeds)
                start = {taps.start: np.array([rng.integers(1 << 40)])} if taps.start else {}
                outputs = session.run({**feeds, **start})
                for name, parts in taps.values.items():
                    _see(seen.tensors.setdefault(name, Observed()), [outputs[p] for p in parts])
                for name, parts in taps.rows.items():
                    low, high, some = (outputs[part] for part in parts)
                    most = min(rows, max(FEWEST_ROWS, ROWS_VALUES // max(1, len(low))))
                    seen.rows.setdefault(name, Channels(most, seed)).add(low, high, some)
                for name, parts in taps.channels.items():
                    low, high, mean, square, size = (outputs[part] for part in parts)
                    count = size.item() // max(1, len(low))
                    seen.moments.setdefault(name, Moments()).add(low, high, mean, square, count)
    seen.tensors = {name: each for name, each in seen.tensors.items() if not each.empty}
    seen.moments = {name: each for name, each in seen.moments.items() if each.count}
    return seen


def tapped(model: Model, tensors: Sequence[str], batches: Iterable[Feeds]) -> Iterator[Feeds]:
    """The values of ``tensors`` of the main graph, whole, of each of the ``batches``.

    The engine does not fuse across what is read. Raises ``EngineError``.
    """
    clone = model.clone()
    graph = clone.ir.graph
    values = {value.name: value for node in graph for value in node.outputs}
    read = [values[name] for name in tensors if name in values]
    for value in read:
        if not value.is_graph_output():
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
            graph.outputs.append(value)
    engine = registry.create(Engine, "engines", ENGINE)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = clone.save(Path(folder) / "tapped.onnx")
        with engine.open(path, Settings(ENGINE, custom_ops=model.custom_ops)) as session:
            for feeds in batches:
                found = {**feeds, **session.run(feeds)}
                yield {name: found[name] for name in tensors if name in found}


def _see(observed: Observed, parts: list[np.ndarray]) -> None:
    if len(parts) == 1:
        observed.see(parts[0])
        return
    low, high, sample, size = parts
    if size.item():
        observed.add(low.item(), high.item(), sample, size.item())
