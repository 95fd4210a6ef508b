"""Einstein's summation over two tensors as the matrix product that it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxpress.dims import product
from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.passes._rewriting import sweep, take
from onnxpress.passes._view_writer import Step, ViewWriter, cost
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, is_op, name_of
from onnxpress.views import RESHAPES, Axes, Factor, View

EQUATION = re.compile(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)")
VIEWING = ("Einsum", "Softmax", "Transpose", *RESHAPES)
"""Beside these new views merge with what is there, or are part of an attention."""
PASSING = ("Add", "Cast", "Div", "Mul", "Sub", "Where")
"""What may stand behind the product before its reader, as the scale and the mask of scores do."""
FAR = 4
"""How many of those."""
LONELY = 1
"""How many views may meet no other: one, as a projection to heads has."""


@dataclass(frozen=True)
class LowerEinsum(Pass):
    """``Einsum("bqhd,bkhd->bhqk", x, y)`` → ``MatMul`` of x and y, transposed and reshaped.

    Of two operands, no letter of which comes twice, summed over letters of both. Letters of both
    and of the result number the products. Where only one side has letters of its own the other
    is a vector. Only where its views meet others that they merge with, but for one: an Einsum
    alone is faster than a product between several transpositions. What is added to each of the
    heads that a projection is split into is added before it is split.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir)
        missed, rewrites = [], 0
        for node in list(model.ir.graph):
            if is_op(node, "Einsum"):
                why = work.lower(node)
                rewrites += not why
                if why:
                    missed.append(Missed("MatMul", (name_of(node),), why))
        if rewrites:
            sweep(model.ir)
        return Change(rewrites, missed=tuple(missed))


@dataclass(frozen=True)
class _Letters:
    """An equation as sets of letters, in order."""

    one: str
    two: str
    out: str

    @property
    def why_not(self) -> str:
        """Why it is no product of matrices, or nothing."""
        parts = (self.one, self.two, self.out)
        if any(len(set(part)) != len(part) for part in parts):
            return "a letter comes twice in one tensor"
        if (set(self.one) ^ set(self.two)) - set(self.out):
            return "it sums over a letter of one operand alone"
        if not set(self.one) & set(self.two) - set(self.out):
            return "it sums over nothing"
        return ""


@dataclass(frozen=True)
class _Plan:
    """A product: what becomes of its operands and of its result."""

    operands: tuple[View, View]
    result: View
    steps: tuple[list[Step], list[Step], list[Step]]

    @property
    def cost(self) -> int:
        """Nodes; what is done to a constant costs nothing."""
        views = (*self.operands, self.result)
        return sum(
            cost(steps)[0]
            for view, steps in zip(views, self.steps, strict=True)
            if constant(view.source) is None
        )

    def lonely(self, node: ir.Node) -> int:
        """How many views of what is computed meet no other view."""
        ends = (*(reaches_back(view.source) for view in self.operands), reaches_on(node))
        views = (*self.operands, self.result)
        return sum(
            cost(steps)[0]
            for view, steps, meets in zip(views, self.steps, ends, strict=True)
            if not meets and constant(view.source) is None
        )


def reaches_back(value: ir.Value | None) -> bool:
    """Whether a view made ``value``, or what one number scales to it."""
    node = None if value is None else value.producer()
    if node is not None and is_op(node, "Mul", "Div"):
        numbers = [constant(side) for side in node.inputs]
        if any(number is not None and number.size == 1 for number in numbers):
            return any(map(reaches_back, node.inputs))
    return node is not None and is_op(node, *VIEWING)


def reaches_on(node: ir.Node, far: int = FAR) -> bool:
    """Whether a view reads what ``node`` makes, directly or behind a few simple operators."""
    users = [user for user, _ in node.outputs[0].uses()]
    return any(
        is_op(user, *VIEWING) or (far > 0 and is_op(user, *PASSING) and reaches_on(user, far - 1))
        for user in users
    )


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self._shapes, self._names = Shapes(model), Names(model)
        self._writer = ViewWriter(model.graph, self._shapes, self._names)

    def lower(self, node: ir.Node) -> str:
        """The reason why not, or nothing."""
        text = re.sub(r"\s", "", node.attributes.get_string("equation", ""))
        found = EQUATION.fullmatch(text)
        one, two = (*node.inputs, None, None)[:2]
        if found is None or len(node.inputs) != 2 or one is None or two is None:
            return f"'{text}' is not of two operands and letters alone"
        letters = _Letters(*found.groups())
        if letters.why_not:
            return f"'{text}': {letters.why_not}"
        factors = self._factors((one, two), letters)
        if factors is None:
            return "its sizes are not known, or are broadcast"
        plan = min(self._plans(node, (one, two), letters, factors), key=_cost, default=None)
        if plan is None:
            return "its sizes cannot be constants"
        lonely = plan.lonely(node)
        if lonely > LONELY:
            return f"it takes {lonely} views beside the product, and none to merge them with"
        self._write(node, plan)
        return ""

    def _factors(
        self, operands: tuple[ir.Value, ir.Value], letters: _Letters
    ) -> dict[str, tuple[Factor, ...]] | None:
        factors: dict[str, Factor] = {}
        for value, part in zip(operands, (letters.one, letters.two), strict=True):
            shape = self._shapes.shape(value)
            if shape is None or len(shape) != len(part):
                return None
            for letter, size in zip(part, shape, strict=True):
                if factors.setdefault(letter, Factor(size)).size != size:
                    return None
        return {x: () if factor.size == 1 else (factor,) for x, factor in factors.items()}

    def _plans(
        self,
        node: ir.Node,
        operands: tuple[ir.Value, ir.Value],
        letters: _Letters,
        factors: Mapping[str, tuple[Factor, ...]],
    ) -> Iterator[_Plan]:
        """Either operand first; letters of the first alone stay apart where there is no batch."""

        def apart(text: str) -> Axes:
            return tuple(factors[letter] for letter in text)

        def one(text: str) -> Axes:
            return (sum(apart(text), ()),)

        pairs = [(operands[0], letters.one), (operands[1], letters.two)]
        for (a, of_a), (b, of_b) in (pairs, pairs[::-1]):
            batch = "".join(x for x in letters.out if x in of_a and x in of_b)
            rows = "".join(x for x in letters.out if x not in of_b)
            columns = "".join(x for x in letters.out if x not in of_a)
            summed = "".join(x for x in of_a if x in of_b and x not in letters.out)
            lead = apart(batch) + (apart(rows) if rows and not batch else one(rows))
            left = View(a, apart(of_a), lead + one(summed))
            right = View(b, apart(of_b), apart(batch) + one(summed) + one(columns))
            back = View(node.outputs[0], lead + one(columns), apart(letters.out))
            steps = [self._writer.best(view) for view in (left, right, back)]
            if steps[0] is not None and steps[1] is not None and steps[2] is not None:
                yield _Plan((left, right), back, (steps[0], steps[1], steps[2]))

    def _write(self, node: ir.Node, plan: _Plan) -> None:
        old = node.outputs[0]
        sides = [
            self._writer.write(view, steps, node, str(view.source.name))
            for view, steps in zip(plan.operands, plan.steps, strict=False)
        ]
        made = ir.node("MatMul", sides, name=node.name)
        made.outputs[0].name = self._names.fresh(f"{old.name}_product")
        made.outputs[0].type = old.type
        node.prepend(inherit(made, node))
        self._shapes.learn(made)
        added = self._added(old, plan.result) if plan.steps[2] else None
        if added is not None:
            adder, numbers = added
            name = self._names.fresh(f"{old.name}_added")
            assert node.graph is not None
            flat = add_initializer(node.graph, name, ir.tensor(numbers, name=name))
            made = inherit(ir.node("Add", [made.outputs[0], flat]), adder)
            old = adder.outputs[0]
            made.outputs[0].name = made.name = self._names.fresh(f"{old.name}_flat")
            made.outputs[0].type = old.type
            node.prepend(made)
            self._shapes.learn(made)
        result = replace(plan.result, source=made.outputs[0])
        take(old, self._writer.write(result, plan.steps[2], node, str(old.name)))

    def _added(self, value: ir.Value, view: View) -> tuple[ir.Node, np.ndarray] | None:
        """The only reader of ``value`` if it adds constants to columns, and those, one per column.

        They are added before ``view`` reshapes the columns: views behind can merge with it then.
        """
        users = [user for user, _ in value.uses()]
        if len(users) != 1 or value.is_graph_output() or not is_op(users[0], "Add"):
            return None
        (adder,) = users
        if adder.graph is not value.graph:
            return None
        shape = self._shapes.shape(value) or ()
        width = product(factor.size for factor in view.before[-1])
        count = next((k for k in range(1, len(shape) + 1) if product(shape[-k:]) == width), 0)
        sizes = [size for size in shape[len(shape) - count :] if isinstance(size, int)]
        numbers = [each for side in adder.inputs if (each := constant(side)) is not None]
        if not count or len(sizes) != count or len(numbers) != 1 or not view.keeps_order:
            return None
        lead = max(0, numbers[0].ndim - count)
        grows = self._shapes.shape(adder.outputs[0]) != shape
        if grows or any(size != 1 for size in numbers[0].shape[:lead]):
            return None
        own = numbers[0].reshape(numbers[0].shape[lead:])
        return adder, np.broadcast_to(own, sizes).reshape(-1)


def _cost(plan: _Plan) -> int:
    return plan.cost
