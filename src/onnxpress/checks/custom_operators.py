"""Operators that neither ONNX nor ONNX Runtime defines, and whose library was not given."""

from __future__ import annotations

import importlib.util
from typing import ClassVar

from onnxpress.custom_ops import FLAG, PACKAGES
from onnxpress.errors import EXTRAS
from onnxpress.finding import ANYWHERE, Check, Finding, Target, file_of
from onnxpress.model import Model
from onnxpress.values import name_of


class CustomOperators(Check):
    """One finding for each operator, at the first node that has it."""

    reads_data: ClassVar[bool] = False

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        told: dict[str, Finding] = {}
        needed = set(model.custom_operators)
        for node in model.nodes():
            operator = f"{node.domain}::{node.op_type}"
            if operator not in needed or operator in told or _is_there(node.domain, model):
                continue
            package = PACKAGES.get(node.domain)
            if package is None:
                what = f"{operator} is the user's own: no engine runs it without its library"
                fix = "name its library in the place of LIB.so: "
                fix += f"onnxpress check {file_of(model)} {FLAG} LIB.so"
            else:
                what = f"{operator} is of {package}, which is not installed"
                fix = f"pip install 'onnxpress[{EXTRAS[package]}]'"
            told[operator] = Finding(
                "custom_operators", "error", name_of(node), node.op_type, what, fix
            )
        return list(told.values())


def _is_there(domain: str, model: Model) -> bool:
    package = PACKAGES.get(domain)
    if package is None:
        return model.custom_ops is not None
    return importlib.util.find_spec(package) is not None
