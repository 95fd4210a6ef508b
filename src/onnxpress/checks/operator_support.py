"""Operators that the installed ONNX Runtime has no kernel for, with the types that they get."""

from __future__ import annotations

import shlex

from onnxpress.finding import ANYWHERE, Check, Finding, Target, file_of
from onnxpress.model import Model
from onnxpress.opsets import newest, newest_ir
from onnxpress.values import name_of, opset


class OperatorSupport(Check):
    """Tells what ONNX Runtime itself answered when it was asked to open the model."""

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        kernels = target.kernels
        if kernels is None:
            return [_unknown(model, target)] if target.asked else []
        runtime = f"ONNX Runtime {target.runtime}"
        told = [
            Finding(
                "operator_support",
                "error",
                name_of(node),
                node.op_type,
                f"{runtime} has no {node.op_type} for {kernels.missing[name_of(node)]}",
                f"onnxpress bench {file_of(model)} --engine openvino --samples random:64\n"
                "or export it in float32",
            )
            for node in model.nodes()
            if name_of(node) in kernels.missing
        ]
        if kernels.refusal and not told and not _too_new(model, target):
            what = f"{runtime} does not open it: {kernels.refusal}"
            fix = "export it again, or report it with the model"
            told.append(Finding("operator_support", "error", file_of(model), "", what, fix))
        if kernels.casts:
            what = f"{runtime} computes float16 in float32 on this CPU, {kernels.casts} Cast added"
            fix = "on a CPU take the float32 model, or OpenVINO with bfloat16 where the CPU has it"
            told.append(Finding("operator_support", "info", file_of(model), "", what, fix))
        return told


def _unknown(model: Model, target: Target) -> Finding:
    """The kernels of another version are in no table of ours."""
    what = f"which operators ONNX Runtime {target.runtime} has is only known where it is installed"
    code = f"import onnxruntime as o; o.InferenceSession({str(model.path or 'model.onnx')!r})"
    plain = not set(code) & set('"$`\\!')
    quoted = f'"{code}"' if plain else shlex.quote(code)
    fix = f"where it is installed: python -c {quoted}"
    return Finding("operator_support", "info", file_of(model), "", what, fix)


def _too_new(model: Model, target: Target) -> bool:
    """``opset_support`` has the reason then."""
    version = target.runtime
    return opset(model.ir) > newest(version) or model.ir.ir_version > newest_ir(version)
