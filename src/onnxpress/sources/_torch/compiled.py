"""A module as ``torch.compile`` makes it, compiled before it is handed out."""

from __future__ import annotations

import torch

from onnxpress.errors import SourceError, first_line
from onnxpress.sources._torch.example import Example

SHAPES = 64
"""So often a module is compiled anew for other shapes. PyTorch would silently go on in eager mode
after 8; here it is an error instead, since what is named compiled must be."""


def compiled(module: torch.nn.Module, example: Example) -> torch.nn.Module:
    """``module`` compiled with the defaults of ``torch.compile``, for the example's shapes first.

    Other shapes compile when they come, from the second one on for sizes that are free. Raises
    ``SourceError`` where there is no C++ compiler, or the module cannot be compiled.
    """
    name = getattr(module, "inner_class", type(module).__name__)
    if isinstance(module, torch.jit.ScriptModule):
        raise SourceError(f"{name} is TorchScript, which torch.compile runs as it is", "a module")
    from torch._dynamo import config, utils

    config.recompile_limit, config.fail_on_recompile_limit_hit = SHAPES, True
    try:
        made: object = torch.compile(module)
        assert isinstance(made, torch.nn.Module)
        with torch.inference_mode():
            example.copied().call(made)
    except Exception as error:
        raise SourceError(
            f"torch.compile cannot compile {name} ({first_line(error)[:200]})",
            "a C++ compiler such as g++, and a module that it can trace",
            "leave out --compile",
        ) from error
    if not utils.counters["frames"]["ok"]:
        raise SourceError(f"torch.compile found nothing in {name} to compile", "a module")
    return made
