"""The contract of graph passes, the facts that they may use, and recipes made of passes.

A recipe is text such as ``fold_constants,quantize_static(activations=int8)``: pass names in
order, each with the fields of its frozen dataclass. That text is what the command line takes,
what a form asks for and what the journal keeps.
"""

from __future__ import annotations

import abc
import ast
import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from onnxpress import registry
from onnxpress.calibrator import Range
from onnxpress.engine import Executed
from onnxpress.errors import InputError
from onnxpress.lineage import Before
from onnxpress.model import Model


@dataclass(frozen=True)
class Need:
    """A fact that a pass cannot work without; verbs gather it before they apply the pass."""


@dataclass(frozen=True)
class Ranges(Need):
    """The range of every float activation, as the named calibrator sees it."""

    calibrator: str = "minmax"


@dataclass(frozen=True)
class Kernels(Need):
    """What ONNX Runtime executes of the model, after its own optimisation at load time."""


@dataclass(frozen=True)
class Facts:
    """What was observed about a model before any pass.

    ``ranges`` maps an activation's name to its range; ``kernels`` name the nodes (``layers``) that
    each stands for.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
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
        keys = [
            f"{f.name}={_text(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{self.name}({', '.join(keys)})" if keys else self.name


@dataclass(frozen=True)
class Recipe(Pass):
    """Passes in order; itself a pass."""

    passes: tuple[Pass, ...] = ()

    def needs(self) -> tuple[Need, ...]:
        return tuple(dict.fromkeys(need for item in self.passes for need in item.needs()))

    def rewrite(self, model: Model, facts: Facts) -> Change:
        changes = [item.rewrite(model, facts) for item in self.passes]
        return Change(
            sum(change.rewrites for change in changes),
            tuple(reason for change in changes for reason in change.refusals),
            tuple(missed for change in changes for missed in change.missed),
        )

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))

    @classmethod
    def parse(cls, text: str, known: Mapping[str, str] | None = None) -> Recipe:
        """A recipe from its text, in which names of ``known`` recipes stand for these.

        Raises ``PluginError`` (unknown pass) or ``InputError``.
        """
        named = {name: cls.parse(recipe).passes for name, recipe in (known or {}).items()}
        parts = (named.get(part) or (_parse_pass(part, named),) for part in _split(text))
        return cls(tuple(step for part in parts for step in part))


def _split(text: str) -> list[str]:
    """The commas outside brackets and quotes separate passes, and the fields of one pass."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _parse_pass(text: str, known: Iterable[str] = ()) -> Pass:
    found = re.fullmatch(r"([\w-]+)(?:\((.*)\))?", text, re.DOTALL)
    if not found:
        raise InputError(f"recipe step '{text}'", "NAME or NAME(key=value, …)")
    plugin = registry.get("passes", found[1], known)
    assert issubclass(plugin, Pass)
    fields = {f.name: f.default for f in dataclasses.fields(plugin)}
    values: dict[str, object] = {}
    for pair in _split(found[2] or ""):
        key, equals, value = (piece.strip() for piece in pair.partition("="))
        if not equals or key not in fields:
            keys = ", ".join(sorted(fields)) or "no fields"
            raise InputError(f"recipe step '{text}' sets '{pair}'", f"key=value with key in {keys}")
        values[key] = _value(text, pair, value, fields[key])
    return plugin(**values)


def _value(step: str, pair: str, text: str, default: object) -> object:
    """``text`` as the type of the field's default, where there is one."""
    value = _literal(text)
    if isinstance(default, str) and not isinstance(value, str):
        return text
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, int | float | str | tuple) and type(value) is not type(default):
        kind = type(default).__name__
        raise InputError(f"recipe step '{step}' sets '{pair}'", f"{kind}, such as {default!r}")
    return value


def _text(value: object) -> str:
    """``value`` as ``_value`` reads it again: quoted where the bare text would be misread."""
    bare = str(value)
    plain = not isinstance(value, str) or re.fullmatch(r"[\w./*+-]+", value)
    return bare if plain and _literal(bare) == value else repr(value)


def _literal(value: str) -> object:
    try:
        literal: object = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return literal
