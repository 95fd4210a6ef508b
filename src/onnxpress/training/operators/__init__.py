"""ONNX's operators in PyTorch, with gradients: ``function(attributes, *inputs)``.

An input that a node leaves out is None. What is not in ``OPERATORS``, or raises ``Unsupported``,
cannot be trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from onnxpress.training.operators.arithmetic import ARITHMETIC
from onnxpress.training.operators.linear import LINEAR
from onnxpress.training.operators.normalizing import NORMALIZING
from onnxpress.training.operators.pooling import POOLING
from onnxpress.training.operators.recurrent import RECURRENT
from onnxpress.training.operators.reducing import REDUCING
from onnxpress.training.operators.resizing import RESIZING
from onnxpress.training.operators.selecting import SELECTING
from onnxpress.training.operators.shaping import SHAPING

OPERATORS: Mapping[str, Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]] = {
    **ARITHMETIC,
    **LINEAR,
    **NORMALIZING,
    **POOLING,
    **RECURRENT,
    **REDUCING,
    **RESIZING,
    **SELECTING,
    **SHAPING,
}
"""Operator of ONNX's own domain → its function."""
