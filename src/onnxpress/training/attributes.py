"""A node's attributes as plain values, which a module may copy, pickle and read at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

Value = int | float | str | tuple[int, ...] | torch.Tensor


class Unsupported(Exception):
    """An attribute or an input that an operator of ours does not know; says which."""


@dataclass(frozen=True)
class Attributes:
    """Name → value. Each method gives its default where the node does not say."""

    values: Mapping[str, Value]

    @classmethod
    def of(cls, node: ir.Node) -> Attributes:
        """Raises ``Unsupported`` for graphs and for types that no operator of ours has."""
        return cls({name: _plain(name, each) for name, each in node.attributes.items()})

    def integer(self, name: str, default: int) -> int:
        value = self.values.get(name, default)
        assert isinstance(value, int)
        return value

    def number(self, name: str, default: float) -> float:
        value = self.values.get(name, default)
        assert isinstance(value, int | float)
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self.values.get(name, default)
        assert isinstance(value, str)
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        value = self.values.get(name)
        assert value is None or isinstance(value, tuple)
        return value

    def tensor(self, name: str) -> torch.Tensor | None:
        value = self.values.get(name)
        assert value is None or isinstance(value, torch.Tensor)
        return value

    def only(self, **known: Value) -> None:
        """Raises ``Unsupported`` where an attribute that is set is not what ``known`` says."""
        for name, value in known.items():
            if self.values.get(name, value) != value:
                raise Unsupported(f"{name}={self.values[name]}")


def _plain(name: str, attribute: ir.Attr) -> Value:
    kind, value = attribute.type, None if attribute.is_ref() else attribute.value
    if kind == ir.AttributeType.TENSOR:
        return torch.from_numpy(np.array(attribute.as_tensor().numpy()))
    if kind in (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING):
        assert isinstance(value, int | float | str)
        return value
    if kind == ir.AttributeType.INTS:
        return tuple(int(item) for item in attribute.as_ints())
    if kind == ir.AttributeType.STRINGS:
        return " ".join(attribute.as_strings())
    raise Unsupported(f"the attribute {name}")
