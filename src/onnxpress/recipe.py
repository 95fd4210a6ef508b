"""The contract of graph passes, the facts that they may use, and recipes made of passes.

A recipe is text such as ``fold_constants,quantize_static(activations=int8)``: pass names in
order, each with the fields of its frozen dataclass. That text is what the command line takes,
what a form asks for and what the journal keeps.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from onnxpress import registry
from onnxpress.calibrator import Range
from onnxpress.engine import Executed
from onnxpress.lineage import Before
from onnxpress.model import Model
from onnxpress.observed import Channels, Moments
from onnxpress.spelling import read, spelled, split


@dataclass(frozen=True)
class Need:
    """A fact that a pass cannot work without; verbs gather it before they apply the pass."""


@dataclass(frozen=True)
class Ranges(Need):
    """The range of every float activation, as ``calibrator`` (see ``spelling``) chooses it.

    ``dtype`` is that of the grid: uint8, int8, uint16 or int16.
    """

    calibrator: str = "minmax"
    dtype: str = "uint8"


@dataclass(frozen=True)
class Rows(Need):
    """At most ``count`` rows, and the bounds of each column, of what linear operators multiply.

    Of MatMul and Gemm by a constant; the rows are drawn at random from all samples.
    """

    count: int = 512


@dataclass(frozen=True)
class PerChannel(Need):
    """Bounds and means of each channel of what linear operators with constant weights read."""


@dataclass(frozen=True)
class Kernels(Need):
    """What ONNX Runtime executes of the model, after its own optimisation at load time."""


@dataclass(frozen=True)
class Facts:
    """What was observed about a model before any pass.

    ``ranges`` maps a need to an activation's name to its range, ``rows`` an activation's name to
    its rows, ``moments`` to what its channels looked like; ``kernels`` name the nodes (``layers``)
    that each stands for.
    """

    ranges: Mapping[Ranges, Mapping[str, Range]] = field(default_factory=dict)
    rows: Mapping[str, Channels] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)
    kernels: tuple[Executed, ...] = ()


@dataclass(frozen=True)
class Missed:
    """A fusion that a pass looked for and did not make.

    ``kind`` is the operator that there might be, ``nodes`` are the names of those that it would
    stand for (the one that it was looked for at comes first), ``blocking`` is the name of the node
    that is in the way, if it is one.
    """

    kind: str
    nodes: tuple[str, ...]
    why: str
    blocking: str = ""

    def __str__(self) -> str:
        return f"no {self.kind} at '{self.nodes[0]}': {self.why}"


@dataclass(frozen=True)
class Change:
    """What a pass did: how many rewrites, and why it left alone what one might have expected.

    ``missed`` are its fusions, ``refusals`` everything else.
    """

    rewrites: int = 0
    refusals: tuple[str, ...] = ()
    missed: tuple[Missed, ...] = ()

    @classmethod
    def all(cls, changes: Iterable[Change]) -> Change:
        """What several passes did, as one."""
        changes = tuple(changes)
        return cls(
            sum(change.rewrites for change in changes),
            tuple(reason for change in changes for reason in change.refusals),
            tuple(missed for change in changes for missed in change.missed),
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that was left alone, as text."""
        return (*self.refusals, *map(str, self.missed))

    @property
    def changed(self) -> bool:
        return self.rewrites > 0


@dataclass(frozen=True)
class Pass(abc.ABC):
    """One rewrite of a graph. Its fields are its flags, its recipe keys and its search space.

    ``rtol`` bounds what a pass may change: the largest output difference over the largest
    magnitude of that output. None marks a lossy pass (quantisation), which only measured quality
    can judge. ``keeps_signature`` is False for a pass whose purpose is to change the signature,
    ``may_add_kernels`` True for one that ONNX Runtime executes more kernels for on purpose.
    """

    api_version: ClassVar[int] = 1
    rtol: ClassVar[float | None] = 1e-5
    keeps_signature: ClassVar[bool] = True
    may_add_kernels: ClassVar[bool] = False

    def needs(self) -> tuple[Need, ...]:
        """The facts that ``apply`` looks up."""
        return ()

    def apply(self, model: Model, facts: Facts | None = None) -> tuple[Model, Change]:
        """A rewritten clone and what changed; ``model`` itself is never touched.

        Where nothing changed the returned model is ``model``. Raises ``AssertionError`` where
        the pass broke the signature: that is a bug in the pass.
        """
        clone = model.clone()
        nodes = Before(clone.ir)
        change = self.rewrite(clone, facts or Facts())
        if not change.changed:
            return model, change
        if self.keeps_signature:
            before, after = model.signature, clone.signature
            assert before == after, f"{self} changed the signature from {before} to {after}"
        clone.journal.add(str(self), change.rewrites, change.reasons, nodes.rewritten(clone.ir))
        return clone, change

    @abc.abstractmethod
    def rewrite(self, model: Model, facts: Facts) -> Change:
        """Mutate ``model``, which is ours alone, and say what was done."""

    @property
    def name(self) -> str:
        """The plug-in's name: of the file that holds it, or of its entry point."""
        return registry.name_of(type(self))

    def __str__(self) -> str:
        """The pass as recipe text, fields that differ from their defaults only."""
        return spelled(self)


@dataclass(frozen=True)
class Recipe(Pass):
    """Passes in order; itself a pass."""

    passes: tuple[Pass, ...] = ()

    def needs(self) -> tuple[Need, ...]:
        return tuple(dict.fromkeys(need for item in self.passes for need in item.needs()))

    def rewrite(self, model: Model, facts: Facts) -> Change:
        return Change.all(item.rewrite(model, facts) for item in self.passes)

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))

    @classmethod
    def parse(cls, text: str, known: Mapping[str, str] | None = None) -> Recipe:
        """A recipe from its text, in which names of ``known`` recipes stand for these.

        Raises ``PluginError`` (unknown pass) or ``InputError``.
        """
        named = {name: cls.parse(recipe).passes for name, recipe in (known or {}).items()}
        parts = (named.get(part) or (read(Pass, "passes", part, named),) for part in split(text))
        return cls(tuple(step for part in parts for step in part))
