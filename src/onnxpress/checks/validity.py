"""What onnx's own checker and its strict shape inference refuse."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx.defs
import onnx_ir as ir

from onnxpress.errors import ModelError
from onnxpress.finding import ANYWHERE, Check, Finding, Target, file_of, output_of
from onnxpress.model import MAPPED_BYTES, Model, check
from onnxpress.shape_rules import UNDECLARED
from onnxpress.shapes import CONTRIB
from onnxpress.values import is_op, name_of, opset


class Validity(Check):
    """The first fault that ``onnx.checker.check_model(full_check=True)`` names.

    What ONNX Runtime has in ONNX's domain and ONNX does not is no fault: one finding for each such
    operator, at the first node that has it, and the checker goes on behind them.
    """

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        nodes = _undeclared(model)
        told = [
            _told(model, [node for node in nodes if node.op_type == op])
            for op in dict.fromkeys(node.op_type for node in nodes)
        ]
        try:
            if model.path is not None and not nodes:
                check(model.path)
            else:
                with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
                    name = model.path.name if model.path is not None else "model.onnx"
                    check(_elsewhere(model).save(Path(folder) / name, MAPPED_BYTES))
        except ModelError as error:
            fix = "export it again; a converter that writes this is worth a report"
            told.append(Finding("validity", "error", file_of(model), "", error.found, fix))
        return told


def _undeclared(model: Model) -> list[ir.Node]:
    """The nodes of ONNX Runtime's own operators that are called as if they were ONNX's."""
    version = opset(model.ir)
    own = [op for op in UNDECLARED if version and not onnx.defs.has(op, version)]
    return [node for node in model.nodes() if is_op(node, *own)]


def _elsewhere(model: Model) -> Model:
    """A clone in which those nodes have a domain that the checker asks nothing of."""
    clone = model.clone()
    for node in _undeclared(clone):
        node.domain = CONTRIB
        clone.ir.graph.opset_imports.setdefault(CONTRIB, 1)
    return clone


def _told(model: Model, nodes: Sequence[ir.Node]) -> Finding:
    op, many = nodes[0].op_type, f"{len(nodes)} nodes" if len(nodes) > 1 else "1 node"
    what = f"ONNX Runtime runs it ({many}), but ONNX has no {op} in opset {opset(model.ir)}: "
    what += "other engines may refuse it"
    fix = "for other engines name the file that it was made of in the place of ORIGINAL.onnx: "
    fix += f"onnxpress optimize ORIGINAL.onnx --target portable -o {output_of(model, 'portable')}"
    return Finding("validity", "info", name_of(nodes[0]), op, what, fix)
