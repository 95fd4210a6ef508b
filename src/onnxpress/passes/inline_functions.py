"""Replace calls of model-local functions by the functions' bodies."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as ir_passes

from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Pass

GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """``f(x)`` with ``f: a → g(h(a))`` in the model → ``g(h(x))``.

    Every other pass and every count looks at the graph alone, so this goes first. A function
    stays where it uses another opset than the model or takes a graph as an attribute.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        refusals = _refusals(model.ir)
        reasons = tuple(reason for reason in refusals.values() if reason)
        calls = [node for node in model.nodes() if not refusals.get(node.op_identifier(), "-")]
        if not calls:
            return Change(0, reasons)
        inlined = [function for key, function in model.ir.functions.items() if not refusals[key]]
        for function in inlined:
            _copy_outputs(function)
        chosen = set(map(id, inlined))
        ir_passes.InlinePass(criteria=lambda function: id(function) in chosen)(model.ir)
        ir_passes.NameFixPass()(model.ir)
        return Change(len(calls), reasons)


def _refusals(model: ir.Model) -> dict[ir.OperatorIdentifier, str]:
    """Function → why it must stay; empty where it need not."""
    recursive = any(_calls(model, key, key) for key in model.functions)
    imports = dict(model.opset_imports)
    refusals = {}
    for key, function in model.functions.items():
        clashes = [
            f"uses opset {version} of '{domain}' and the model {imports[domain]}"
            for domain, version in function.opset_imports.items()
            if imports.get(domain, version) != version
        ]
        if recursive:
            clashes.append("may be called by itself")
        if any(attribute.type in GRAPHS for attribute in function.attributes.values()):
            clashes.append("takes a graph as an attribute")
        if not clashes:
            imports.update(function.opset_imports)
        refusals[key] = f"function '{function.name}' {clashes[0]}" if clashes else ""
    return refusals


def _calls(model: ir.Model, caller: ir.OperatorIdentifier, wanted: ir.OperatorIdentifier) -> bool:
    """Whether ``caller`` calls ``wanted``, directly or through others."""
    seen: set[ir.OperatorIdentifier] = set()
    ahead = [caller]
    while ahead:
        function = model.functions[ahead.pop()]
        called = {node.op_identifier() for node in function.all_nodes()} & model.functions.keys()
        if wanted in called:
            return True
        ahead.extend(called - seen)
        seen |= called
    return False


def _copy_outputs(function: ir.Function) -> None:
    """An output that is an input, or an output before, becomes a copy of it.

    Otherwise a graph output that the call computes would lose its name to the call's input.
    """
    seen: set[ir.Value] = set(function.inputs)
    for index, value in enumerate(function.outputs):
        if value in seen:
            copy = ir.node("Identity", [value])
            function.append(copy)
            function.outputs[index] = copy.outputs[0]
        seen.add(value)
