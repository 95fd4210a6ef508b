"""Steps of one recurrent cell that follow each other, and the operator that takes them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxpress.passes._linear_sums import Affine, AffineReader, Source
from onnxpress.passes._recurrence_writer import Fused, Refusal, Sequenced, write
from onnxpress.passes._rewriting import sweep
from onnxpress.recipe import Change, Missed
from onnxpress.shapes import Shapes
from onnxpress.values import Names, is_op, name_of, opset, subgraphs

GATES = ("HardSigmoid", "Sigmoid")
"""Without one of them there is no step, nor nearly one."""
OTHER_WEIGHTS = "one step has other weights than the one before"
FIRST_OPSET = 7
"""Of LSTM and GRU as they are."""

Weights = tuple[np.ndarray | None, ...]
"""What one source is multiplied with, gate by gate; None where a gate does not read it."""


@dataclass(frozen=True)
class Step:
    """One step of a cell.

    ``result`` is what it gives, ``state`` what it hands on besides (the result, if nothing else),
    ``before`` the state that it takes. ``gates`` are what its activations take, in the order of
    the operator's weights, [batch, size] each. ``hidden_bias`` is the part of the last gate's bias
    that is added before the reset. ``nodes`` are what computes it.
    """

    result: ir.Value
    state: ir.Value
    before: ir.Value
    gates: tuple[Affine, ...]
    nodes: tuple[ir.Node, ...]
    hidden_bias: np.ndarray | None = None
    attributes: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_gated_alone(self) -> bool:
        """Whether the state is the result."""
        return self.state is self.result

    def sources(self) -> Mapping[Source, Weights]:
        """All that the gates read."""
        found = dict.fromkeys(source for gate in self.gates for source in gate.weights)
        return {source: tuple(gate.weights.get(source) for gate in self.gates) for source in found}


def missed(op: str, steps: Sequence[Step], why: str, blocking: ir.Node | None) -> Missed:
    """What might have been ``op``, from its last node."""
    makers = [step.result.producer() for step in reversed(steps)]
    nodes = [*makers, *(node for step in steps for node in step.nodes)]
    names = dict.fromkeys(name_of(node) for node in nodes if node is not None)
    return Missed(op, tuple(names), why, "" if blocking is None else name_of(blocking))


Find = Callable[[ir.Node, AffineReader], Step | Missed | None]
"""The step whose result is the first output of a node; a reason where it is nearly one."""


@dataclass
class _Chain:
    """Steps of equal weights, each taking what the one before gives.

    ``inputs`` are the sources of each step, in one order, and ``weights`` what those are
    multiplied with; ``first`` is the source of the first step's state, where its gates read it.
    """

    steps: list[Step]
    inputs: list[tuple[Source, ...]] = field(default_factory=list)
    weights: tuple[Weights, ...] = ()
    recurrent: Weights = ()
    first: Source | None = None


def fuse_steps(model: ir.Model, op: str, find: Find) -> Change:
    """Every chain of two or more steps of ``model``'s main graph in one ``op`` each."""
    rewrites = 0
    if not any(is_op(node, *GATES) for node in model.graph):
        return Change()
    while True:
        found = _Search(model, op, find)
        if not found.fuse_one():
            return Change(rewrites, missed=tuple(found.missed))
        rewrites += 1


class _Search:
    """The steps that a graph has now."""

    def __init__(self, model: ir.Model, op: str, find: Find) -> None:
        self.missed: list[Missed] = []
        self._model, self._op = model, op
        self._shapes = Shapes(model)
        self._reader = AffineReader(self._shapes)
        self._steps: list[Step] = []
        for node in model.graph:
            found = find(node, self._reader)
            if isinstance(found, Missed):
                self.missed.append(found)
            elif found is not None:
                self._steps.append(found)
        self._own = {node for step in self._steps for node in step.nodes}
        self._holders = {
            graph: node
            for node in ir.traversal.RecursiveGraphIterator(model.graph)
            for graph in subgraphs(node)
        }

    def fuse_one(self) -> bool:
        """The first chain that can be; of the others the reasons."""
        for chain in self._chains():
            try:
                self._fuse(chain)
            except Refusal as refusal:
                why, blocking = str(refusal), refusal.blocking
                self.missed.append(missed(self._op, chain.steps, why, blocking))
            else:
                return True
        return False

    def _chains(self) -> Iterator[_Chain]:
        """In the order of their first steps."""
        following: dict[ir.Value, Step] = {}
        for step in self._steps:
            following.setdefault(step.before, step)
        follows = {id(following[step.state]) for step in self._steps if step.state in following}
        for start in self._steps:
            if id(start) in follows:
                continue
            chain, after = _Chain([start]), _reached([start], self._holders)
            why = Refusal("it is one step alone")
            alone: list[tuple[Step, Refusal]] = []
            while (coming := following.get(chain.steps[-1].state)) is not None:
                try:
                    self._append(chain, coming, after)
                except Refusal as refusal:
                    why = refusal
                    if len(chain.steps) > 1:
                        yield chain
                    else:
                        alone.append((chain.steps[0], why))
                    chain, after = _Chain([coming]), _reached([coming], self._holders)
            if len(chain.steps) > 1:
                yield chain
            else:
                alone.append((chain.steps[0], why))
            self._miss(alone)

    def _miss(self, alone: Sequence[tuple[Step, Refusal]]) -> None:
        """One reason for all steps of one sequence that it keeps apart."""
        for why in dict.fromkeys(str(refusal) for _, refusal in alone):
            steps = [step for step, refusal in alone if str(refusal) == why]
            blocking = next(refusal.blocking for _, refusal in alone if str(refusal) == why)
            self.missed.append(missed(self._op, steps, why, blocking))

    def _append(self, chain: _Chain, step: Step, after: set[ir.Value]) -> None:
        """Let ``step`` go on with ``chain``. Raises ``Refusal`` where it does not."""
        last, node = chain.steps[-1], step.result.producer()
        sources = dict(step.sources())
        recurrent = sources.pop(self._reader.source(last.result), None)
        if recurrent is None:
            raise Refusal("one step does not read the result of the one before", node)
        if not sources:
            raise Refusal("its steps have no input", node)
        for source in sources:
            if {source.value, source.made} & after:
                why = "the input of one step is computed from the result of the one before"
                raise Refusal(why, source.value.producer())
        if not _same_biases(last, step) or last.attributes != step.attributes:
            raise Refusal("one step has another bias than the one before", node)
        if len(chain.steps) == 1:
            self._begin(chain, step, sources, recurrent)
            return
        ordered = _in_order(sources, chain.weights)
        if ordered is None or not _same(recurrent, chain.recurrent):
            raise Refusal(OTHER_WEIGHTS, node)
        chain.inputs.append(ordered)
        chain.steps.append(step)

    def _begin(
        self, chain: _Chain, step: Step, sources: dict[Source, Weights], recurrent: Weights
    ) -> None:
        """The second step tells what of the first one's sources is the state."""
        first = chain.steps[0]
        given = dict(first.sources())
        places = [self._reader.source(first.before)] if first.is_gated_alone else list(given)
        state = next((s for s in places if s in given and _same(given[s], recurrent)), None)
        # Where the state before the first step is constant, its product is part of the bias.
        if state is not None:
            del given[state]
        weights = tuple(sources.values())
        ordered = _in_order(given, weights)
        if ordered is None:
            raise Refusal(OTHER_WEIGHTS, step.result.producer())
        chain.inputs = [ordered, tuple(sources)]
        chain.weights, chain.recurrent, chain.first = weights, recurrent, state
        chain.steps.append(step)

    def _fuse(self, chain: _Chain) -> None:
        if opset(self._model) < FIRST_OPSET:
            raise Refusal(f"it needs opset {FIRST_OPSET}, the model has {opset(self._model)}")
        self._check_readers(chain)
        first = chain.steps[0]
        if first.is_gated_alone:
            states: tuple[ir.Value | None, ...] = (first.before,)
        else:
            states = (None if chain.first is None else chain.first.made, first.before)
        gates, hidden = first.gates, first.hidden_bias
        zeros = np.zeros_like(gates[0].bias)
        biases = [gate.bias for gate in gates]
        added = [zeros] * (len(gates) - 1) + [zeros if hidden is None else hidden]
        fused = Fused(
            self._op,
            tuple(step.result for step in chain.steps),
            None if first.is_gated_alone else chain.steps[-1].state,
            states,
            tuple(
                Sequenced(tuple(inputs[place] for inputs in chain.inputs), weights)
                for place, weights in enumerate(chain.weights)
            ),
            chain.recurrent,
            np.concatenate([*biases, *added]),
            first.attributes,
            frozenset(node for step in chain.steps for node in step.nodes),
        )
        write(fused, self._model.graph, self._shapes, Names(self._model))
        self._model.graph.sort()
        sweep(self._model)

    def _check_readers(self, chain: _Chain) -> None:
        """Of what goes, nothing but the results and the last state may be read elsewhere."""
        kept = {step.result for step in chain.steps} | {chain.steps[-1].state}
        for node in dict.fromkeys(node for step in chain.steps for node in step.nodes):
            for value in node.outputs:
                if value in kept:
                    continue
                if value.is_graph_output():
                    raise Refusal("a value inside it is an output of the model", node)
                for user, _ in value.uses():
                    if user not in self._own:
                        raise Refusal("another node reads a value inside it", user)


def _same(one: Weights, two: Weights) -> bool:
    return len(one) == len(two) and all(map(_equal, one, two))


def _equal(one: np.ndarray | None, two: np.ndarray | None) -> bool:
    if one is None or two is None:
        return one is two
    a, b = one.__array_interface__, two.__array_interface__
    return a == b or (one.dtype == two.dtype and np.array_equal(one, two))


def _same_biases(one: Step, two: Step) -> bool:
    pairs = [(a.bias, b.bias) for a, b in zip(one.gates, two.gates, strict=True)]
    if (one.hidden_bias is None) != (two.hidden_bias is None):
        return False
    if one.hidden_bias is not None and two.hidden_bias is not None:
        pairs.append((one.hidden_bias, two.hidden_bias))
    # Sums of the same parts, perhaps in another order or folded in the model's own precision.
    return all(a.shape == b.shape and np.allclose(a, b, 1e-5, 1e-6) for a, b in pairs)


def _in_order(
    sources: Mapping[Source, Weights], wanted: Sequence[Weights]
) -> tuple[Source, ...] | None:
    """``sources`` in the order of the weights that they are to have; None where they differ."""
    left, ordered = dict(sources), []
    for weights in wanted:
        source = next((s for s, have in left.items() if _same(have, weights)), None)
        if source is None:
            return None
        del left[source]
        ordered.append(source)
    return None if left else tuple(ordered)


def _reached(steps: Iterable[Step], holders: Mapping[ir.Graph, ir.Node]) -> set[ir.Value]:
    """All that is computed from what ``steps`` give, and that itself."""
    waiting = [value for step in steps for value in (step.result, step.state)]
    found = set(waiting)
    while waiting:
        for user, _ in waiting.pop().uses():
            node = user
            while True:
                new = [value for value in node.outputs if value not in found]
                found.update(new)
                waiting.extend(new)
                if not isinstance(node.graph, ir.Graph) or node.graph not in holders:
                    break
                node = holders[node.graph]
    return found
