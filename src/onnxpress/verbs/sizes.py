"""Sizes of free dimensions with which a model runs, where independent ones do not."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, require
from onnxpress.errors import OnnxpressError
from onnxpress.model import MAPPED_BYTES, Model
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature
from onnxpress.verbs.guard import AS_WRITTEN, ENGINE

EQUAL = (2, 3, 32, 64, 128, 224, 400, 1600, 8000)
"""Sizes that all free dimensions get at once: one length for all, or long enough for a sound."""
STEPS = ((3, 5), (1, 7), (7, 1))
"""Of a model of text with a cache: so many tokens are new, so many were there before."""
OTHER = 11
"""A length that has nothing to do with these, such as an encoder's."""

Sizes = Mapping[str, int]


def running_sizes(model: Model, feeds: Callable[[Sizes], Feeds]) -> list[Sizes]:
    """Sizes of the free dimensions behind the batch with which ONNX Runtime runs ``model``.

    Tried are equal ones, then one that is the sum of two others, as the length of a mask is that
    of the cache and of the new tokens: then there are several answers, one new token among them.
    Empty where none of them does it, or the usual sizes do. ``feeds`` makes feeds of given sizes.
    Raises ``EngineError`` where ONNX Runtime is missing or cannot open the model.
    """
    groupings = [groups for groups in _groupings(model.signature) if groups]
    if not groupings:
        return []
    engine = registry.create(Engine, "engines", ENGINE)
    require(engine, ENGINE)
    settings = Settings(ENGINE, options=AS_WRITTEN, custom_ops=model.custom_ops)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = model.clone().save(Path(folder) / "model.onnx", MAPPED_BYTES)
        with engine.open(path, settings) as session:

            def runs(sizes: Sizes) -> bool:
                try:
                    session.run(feeds(sizes))
                except OnnxpressError:
                    return False
                return True

            if runs({}):
                return []
            for tried in itertools.chain.from_iterable(map(_candidates, groupings)):
                found = [sizes for sizes in tried if runs(sizes)]
                if found and found[0] is tried[0]:
                    return found
    return []


def _groupings(signature: Signature) -> Iterator[list[list[str]]]:
    """Named free dimensions that are no batch, those in one list of one size.

    A cache has four dimensions and an input, or two, for each layer: all of them are one length,
    or those are whose names differ by a number alone.
    """
    batch = {spec.shape[0] for spec in signature.inputs if spec.shape}
    for alike in (lambda name: "", lambda name: re.sub(r"\d+", "", name), lambda name: name):
        found: dict[tuple[object, ...], list[str]] = {}
        known: set[object] = {*batch, "?"}
        for spec in signature.inputs:
            shape = spec.shape or ()
            for axis, dim in enumerate(shape):
                if isinstance(dim, str) and dim not in known:
                    known.add(dim)
                    key = (alike(spec.name), axis) if len(shape) > 3 else (dim,)
                    found.setdefault(key, []).append(dim)
        yield list(found.values())


def _candidates(groups: Sequence[Sequence[str]]) -> Iterator[list[Sizes]]:
    """Sizes to try, each with others of the same relations, the likeliest first."""

    def named(sizes: Iterable[int]) -> Sizes:
        return {name: size for group, size in zip(groups, sizes, strict=True) for name in group}

    places = range(len(groups))
    for size in EQUAL:
        yield [named(size for _ in places)]
    for total, past, new in itertools.permutations(places, 3):
        for other in (None, OTHER):
            yield [
                named({total: a + b, past: b, new: a}.get(i, other or a) for i in places)
                for a, b in STEPS
            ]
