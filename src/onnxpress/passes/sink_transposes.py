"""Transpositions around operators that do not care for the order of the dimensions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._layouts import Layouts, inverse, order_of
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import (
    FREE_INITIALIZERS,
    Names,
    can_forward,
    discard,
    drop_unused,
    forward,
    is_op,
    name_of,
)
from onnxpress.views import RESHAPES


@dataclass(frozen=True)
class SinkTransposes(Pass):
    """``Transpose(f(Transpose(x, p)), p⁻¹)`` → ``f'(x)``, f' being f with its dimensions in p's order.

    f is any region of elementwise operators, Concat, Split, Pad, Slice, Softmax and reductions that
    are connected with each other. Transpositions enter and leave it; where others enter or leave,
    one is added. It is done where fewer are left, as in what exporters of channels-last models
    write around each convolution. Reshapes that move dimensions past those of size 1 count as
    transpositions. Before reductions that keep the order of what they leave, none is needed.
    """  # noqa: E501  # an equation

    def rewrite(self, model: Model, facts: Facts) -> Change:
        shapes = Shapes(model.ir)
        layouts = Layouts(model.ir, shapes)
        if not layouts.is_known:
            return Change()
        work = _Work(shapes, layouts, Names(model.ir))
        missed: list[Missed] = []
        rewrites, turned = 0, 1
        while turned:  # what leaves one region may make it worth while to turn another
            turned, missed = 0, []
            for graph in model.ir.graphs():
                turned += sum(map(work.reduce, list(graph)))
                for region in list(work.regions(graph)):
                    plan = max(work.plans(region), key=lambda plan: plan.gain, default=None)
                    if plan is not None and plan.pays:
                        work.turn(region, plan)
                        turned += 1
                    elif plan is not None and plan.into and plan.out:
                        missed.append(_missed(plan))
            rewrites += turned
        if rewrites:
            model.ir.ir_version = max(model.ir.ir_version, FREE_INITIALIZERS)
        return Change(rewrites, missed=tuple(missed))


@dataclass(frozen=True)
class _Plan:
    """A region for data before Transpose(``order``), so far for data behind it.

    ``into`` and ``out`` are the transpositions that go, ``enter`` and ``leave`` the values that
    need another one. ``gain`` is how many fewer there are, then of those that only move dimensions
    past others of size 1.
    """

    order: tuple[int, ...]
    into: tuple[ir.Node, ...]
    out: tuple[ir.Node, ...]
    enter: tuple[ir.Value, ...]
    leave: tuple[ir.Value, ...]
    gain: tuple[int, int]

    @property
    def pays(self) -> bool:
        """Whether fewer elements move, and no more nodes move them."""
        return self.gain > (0, 0) and sum(self.gain) >= 0


def _missed(plan: _Plan) -> Missed:
    values = (*plan.enter, *plan.leave)
    users = [node for value in values for node, _ in value.uses()]
    blocking = name_of(users[-1]) if users else ""
    count = len(plan.into) + len(plan.out)
    why = f"{count} could go, but others read its values, for which as many would be added"
    nodes = tuple(map(name_of, (*plan.into, *plan.out)))
    return Missed("one order of dimensions", nodes, why, blocking)


class _Work:
    def __init__(self, shapes: Shapes, layouts: Layouts, names: Names) -> None:
        self._shapes, self._layouts, self._names = shapes, layouts, names

    def reduce(self, node: ir.Node) -> bool:
        """Whether ``node`` was a Transpose before reductions that need none, and is gone."""
        if not is_op(node, "Transpose") or node.outputs[0].is_graph_output():
            return False
        data, users = node.inputs[0], [user for user, _ in node.outputs[0].uses()]
        rank = self._layouts.rank(data)
        if data is None or rank is None or not users:
            return False
        order = order_of(node, rank)
        if not all(self._layouts.reduces(user, order) for user in users):
            return False
        for user in users:
            read = list(user.inputs)
            self._layouts.turn(user, order)
            user.replace_input_with(0, data)
            drop_unused(read)
        discard(node)
        return True

    def regions(self, graph: ir.Graph) -> Iterator[list[ir.Node]]:
        """Nodes that do not care for the order and read each other, as they stand in ``graph``."""
        place = {node: index for index, node in enumerate(graph)}
        seen: set[ir.Node] = set()
        for start in place:
            rank = self._layouts.rank(start.outputs[0]) if start.outputs else None
            if start in seen or rank is None or rank < 2 or not self._layouts.data(start, rank):
                continue
            seen.add(start)
            region, left = [start], deque([start])
            while left:
                for node in self._beside(left.popleft(), rank):
                    if node in place and node not in seen and self._layouts.data(node, rank):
                        seen.add(node)
                        region.append(node)
                        left.append(node)
            yield sorted(region, key=place.__getitem__)

    def _beside(self, node: ir.Node, rank: int) -> Iterator[ir.Node]:
        for value in self._layouts.data(node, rank) or ():
            producer = value.producer()
            if producer is not None:
                yield producer
        for value in node.outputs:
            for user, _ in value.uses():
                if value in (self._layouts.data(user, rank) or ()):
                    yield user

    def plans(self, region: Sequence[ir.Node]) -> Iterator[_Plan]:
        """One for each order that something enters or leaves in."""
        enter, leave = self._borders(region)
        rank = self._layouts.rank(region[0].outputs[0])
        assert rank is not None
        orders: set[tuple[int, ...]] = set()
        for value in enter:
            producer = value.producer()
            if producer is not None and self._moves(producer):
                orders |= self._orders(producer, rank)
        for value in leave:
            for user, _ in value.uses():
                if self._moves(user):
                    orders |= {inverse(order) for order in self._orders(user, rank)}
        for order in sorted(orders):
            yield self._plan(set(region), order, enter, leave)

    def _borders(self, region: Sequence[ir.Node]) -> tuple[list[ir.Value], list[ir.Value]]:
        """The values that enter ``region`` and those that leave it."""
        own = set(region)
        enter: dict[ir.Value, None] = {}
        leave: dict[ir.Value, None] = {}
        for node in region:
            rank = self._layouts.rank(node.outputs[0])
            assert rank is not None
            for value in self._layouts.data(node, rank) or ():
                if value.producer() not in own:
                    enter[value] = None
            for value in node.outputs:
                if value.is_graph_output() or any(user not in own for user, _ in value.uses()):
                    leave[value] = None
        return list(enter), list(leave)

    def _plan(
        self,
        own: set[ir.Node],
        order: tuple[int, ...],
        enter: Sequence[ir.Value],
        leave: Sequence[ir.Value],
    ) -> _Plan:
        into, out, more, rest = [], [], [], []
        for value in enter:
            producer = value.producer()
            if producer is None or not self._acts(producer, order):
                more.append(value)
            elif not value.is_graph_output() and all(user in own for user, _ in value.uses()):
                into.append(producer)
        for value in leave:
            alone = True
            for user, _ in value.uses():
                if self._goes(user, value, order):
                    out.append(user)
                elif user not in own and not self._adapts(user, order):
                    alone = False
            if not alone or value.is_graph_output():
                rest.append(value)
        back = inverse(order)
        change = [(node.inputs[0], order) for node in into] + [(n.inputs[0], back) for n in out]
        added = [(value, back) for value in more] + [(value, order) for value in rest]
        gain = [0, 0]
        for sign, moves in ((1, change), (-1, added)):
            for data, way in moves:
                gain[self._slides(data, way)] += sign
        return _Plan(order, tuple(into), tuple(out), tuple(more), tuple(rest), (gain[0], gain[1]))

    def turn(self, region: Sequence[ir.Node], plan: _Plan) -> None:
        """Carry ``plan`` out."""
        enter, leave = self._borders(region)
        own, order = set(region), plan.order
        old = {value: value.shape for node in region for value in node.outputs}
        for value in enter:
            producer = value.producer()
            if value in plan.enter or producer is None:
                reader = next(node for node in region if value in node.inputs)
                source = self._transposed(value, inverse(order), reader)
            else:
                source = producer.inputs[0]  # type: ignore[assignment]  # it has data
            for user, index in tuple(value.uses()):
                if user in own:
                    user.replace_input_with(index, source)
        for node in plan.into:
            discard(node)
        for node in region:
            read = list(node.inputs)
            self._layouts.turn(node, order)
            drop_unused(read)
            self._shapes.learn(node)
            for value in node.outputs:
                if value.shape is not None:
                    value.shape = ir.Shape([value.shape[axis] for axis in inverse(order)])
        for value in leave:
            self._leave(value, own, plan, old[value])

    def _leave(
        self, value: ir.Value, own: set[ir.Node], plan: _Plan, shape: ir.Shape | None
    ) -> None:
        """What the readers of ``value`` outside of the region get."""
        others = []
        for user, index in tuple(value.uses()):
            if user in own:
                continue
            if user in plan.out:
                assert forward(user.outputs[0], value)
                discard(user)
            elif is_op(user, "Transpose"):
                perm = [plan.order[axis] for axis in order_of(user, len(plan.order))]
                user.attributes["perm"] = ir.AttrInt64s("perm", perm)
            elif self._adapts(user, plan.order):
                read = list(user.inputs)
                self._layouts.turn(user, plan.order)
                drop_unused(read)
            else:
                others.append((user, index))
        if value not in plan.leave:
            return
        producer = value.producer()
        assert producer is not None
        node = ir.node("Transpose", [value], {"perm": plan.order})
        made = node.outputs[0]
        made.type, made.shape = value.type, shape
        producer.append(node)
        graph = value.graph
        if value.is_graph_output():
            assert graph is not None
            name, value.name = value.name, None
            made.name = name
            value.name = self._names.fresh(f"{name}_turned")
            for index, output in enumerate(graph.outputs):
                if output is value:
                    graph.outputs[index] = made
        else:
            made.name = self._names.fresh(f"{value.name}_turned")
        node.name = made.name
        for user, index in others:
            user.replace_input_with(index, made)
        self._shapes.learn(node)

    def _transposed(self, value: ir.Value, order: Sequence[int], before: ir.Node) -> ir.Value:
        node = ir.node("Transpose", [value], {"perm": order})
        made = node.outputs[0]
        made.type = value.type
        made.name = node.name = self._names.fresh(f"{value.name}_turned")
        if value.shape is not None:
            made.shape = ir.Shape([value.shape[axis] for axis in order])
        before.prepend(node)
        self._shapes.learn(node)
        return made

    def _goes(self, user: ir.Node, value: ir.Value, order: tuple[int, ...]) -> bool:
        """Whether ``user`` takes back ``order``, and ``value`` can stand in its place."""
        if not self._acts(user, inverse(order)) or user.graph is not value.graph:
            return False
        outputs = [u.outputs[0].is_graph_output() for u, _ in value.uses() if self._moves(u)]
        return not user.outputs[0].is_graph_output() or (
            can_forward(user.outputs[0], value) and sum(outputs) == 1
        )

    def _adapts(self, user: ir.Node, order: tuple[int, ...]) -> bool:
        """Whether ``user`` can read what is not transposed, and give what it gave."""
        return is_op(user, "Transpose") or self._layouts.reduces(user, order)

    def _moves(self, node: ir.Node) -> bool:
        return is_op(node, "Transpose", *RESHAPES)

    def _orders(self, node: ir.Node, rank: int) -> set[tuple[int, ...]]:
        """What ``node`` may be as a transposition."""
        if is_op(node, "Transpose"):
            return {order_of(node, rank)}
        last = (0, *range(2, rank), 1)
        return {order for order in (last, inverse(last)) if self._acts(node, order)}

    def _acts(self, node: ir.Node, order: Sequence[int]) -> bool:
        """Whether ``node`` is Transpose(``order``), or a Reshape that does the same."""
        if is_op(node, "Transpose"):
            return order_of(node, len(order)) == tuple(order)
        if not is_op(node, *RESHAPES) or not self._slides(node.inputs[0], order):
            return False
        before, after = self._shapes.shape(node.inputs[0]), self._shapes.shape(node.outputs[0])
        return before is not None and after == tuple(before[axis] for axis in order)

    def _slides(self, value: ir.Value | None, order: Sequence[int]) -> bool:
        """Whether only dimensions of size 1 change places with others."""
        shape = self._shapes.shape(value)
        if shape is None or len(shape) != len(order):
            return False
        moved = [axis for axis in order if shape[axis] != 1]
        return moved == sorted(moved)
