"""Which layers suffer from quantisation, and the fewest to keep in float.

Damage is error over signal: of the model's outputs, the mean squared difference to the float
model's over their variance (the largest of any output).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxpress import registry
from onnxpress.engine import Engine, Executed, Session
from onnxpress.errors import EngineError
from onnxpress.model import Model
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.similarity import average_ranks
from onnxpress.verbs.noise import Batches, added_noise


@dataclass(frozen=True)
class Layer:
    """``alone`` is the damage with only this layer quantised, by measurement.

    ``local`` is the noise over signal that it adds to its own result, whatever is left of the
    model: see ``added_noise``. Either is None where it could not be had.
    """

    node: str
    alone: float | None
    local: float | None

    def to_dict(self) -> dict[str, object]:
        return {"node": self.node, "alone": self.alone, "local": self.local}


@dataclass(frozen=True)
class Ranking:
    """``layers`` from the most to the least sensitive.

    ``agreement`` is Spearman's correlation of the two measures over the layers that have both;
    None where fewer than 3 have.
    """

    layers: tuple[Layer, ...]
    agreement: float | None

    def to_dict(self) -> dict[str, object]:
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "agreement": self.agreement,
        }


class Damage:
    """Compares models with one float model on the same batches, one session at a time."""

    def __init__(self, model: Model, batches: Batches, settings: Settings) -> None:
        self._batches, self._settings = batches, settings
        self._expected = [
            {name: array for name, array in outputs.items() if _counts(array)}
            for outputs in self._answers(model)
        ]
        self._spread = {
            name: max(_variance([batch[name] for batch in self._expected]), 1e-30)
            for name in (self._expected[0] if self._expected else {})
        }

    def __call__(self, model: Model) -> float:
        """Of ``model``; infinite where its outputs are not finite. Raises ``EngineError``."""
        total = dict.fromkeys(self._spread, 0.0)
        count = dict.fromkeys(self._spread, 0)
        for expected, outputs in zip(self._expected, self._answers(model), strict=True):
            for name, wanted in expected.items():
                got, known = outputs[name], np.isfinite(wanted)
                if got.shape != wanted.shape or not np.isfinite(got[known]).all():
                    return float("inf")
                apart = got[known].astype(np.float64) - wanted[known]
                total[name] += float(np.square(apart).sum())
                count[name] += apart.size
        return max(
            (total[name] / max(1, count[name]) / self._spread[name] for name in total), default=0.0
        )

    def executed(self, model: Model) -> tuple[Executed, ...]:
        """The kernels that the engine runs for ``model``. Raises ``EngineError``."""
        with self._opened(model) as session:
            return session.executed()

    def _answers(self, model: Model) -> Iterator[Feeds]:
        with self._opened(model) as session:
            for feeds in self._batches():
                yield session.run(feeds)

    @contextlib.contextmanager
    def _opened(self, model: Model) -> Iterator[Session]:
        with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
            path = model.clone().save(Path(folder) / "model.onnx")
            engine = registry.create(Engine, "engines", self._settings.engine)
            with engine.open(path, self._settings) as session:
                yield session


def _counts(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and array.size > 0


def _variance(batches: Sequence[np.ndarray]) -> float:
    """Of all finite values, around the mean of each element where all batches have one shape."""
    if len({batch.shape[1:] for batch in batches}) == 1 and batches[0].ndim:
        every = np.concatenate(batches).astype(np.float64)
        known = every[np.isfinite(every).reshape(len(every), -1).all(axis=1)]
        if len(known) > 1:
            return float(np.square(known - known.mean(axis=0)).mean())
    flat = np.concatenate([batch.reshape(-1) for batch in batches]).astype(np.float64)
    flat = flat[np.isfinite(flat)]
    return float(flat.var()) if flat.size else 0.0


def ranked(
    layers: Sequence[str],
    quantized: Callable[[Sequence[str]], Model],
    damage: Damage,
    batches: Batches,
    progress: Callable[[int], None],
) -> Ranking:
    """Every one of ``layers`` measured alone, and by the noise that it adds.

    ``quantized`` makes the model in which the given layers, and no others, are quantised.
    """
    local = added_noise(layers, quantized(()), quantized(layers), batches)
    found = []
    for index, name in enumerate(layers):
        progress(index)
        try:
            alone: float | None = damage(quantized([name]))
        except EngineError:
            alone = None
        found.append(Layer(name, alone, local.get(name)))
    found.sort(key=_severity, reverse=True)
    return Ranking(tuple(found), _spearman(found))


def _severity(layer: Layer) -> tuple[float, float]:
    return (
        layer.alone if layer.alone is not None else float("inf"),
        layer.local if layer.local is not None else 0.0,
    )


def _spearman(layers: Sequence[Layer]) -> float | None:
    pairs = [
        (layer.alone, layer.local)
        for layer in layers
        if layer.alone is not None and layer.local is not None
    ]
    if len(pairs) < 3:
        return None
    ranks = [average_ranks(np.array(measure)) for measure in zip(*pairs, strict=True)]
    if any(np.ptp(each) == 0 for each in ranks):
        return None
    return float(np.corrcoef(ranks)[0, 1])


def fewest(ranking: Ranking, holds: Callable[[Sequence[str]], bool]) -> tuple[str, ...] | None:
    """The shortest beginning of the ranking that ``holds`` when it is kept in float.

    Doubles the number until it holds, then halves the step between; every try is measured.
    None where no number of layers holds, but for all of them.
    """
    names = [layer.node for layer in ranking.layers]
    low, high = 0, 1
    while high < len(names) and not holds(names[:high]):
        low, high = high, high * 2
    if high >= len(names):
        high = len(names) - 1
        if high <= low or not holds(names[:high]):
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if holds(names[:middle]):
            high = middle
        else:
            low = middle
    return tuple(names[:high])
