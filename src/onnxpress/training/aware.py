"""The result of ``quantize_aware``: a module to train, and the model that it becomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.progress import Progress, silent
from onnxpress.training.fitting import History, Loss
from onnxpress.training.fitting import fit as run_fit
from onnxpress.training.network import Network
from onnxpress.verbs.verify import Verified


@dataclass(frozen=True)
class Aware:
    """``module`` computes what the exported model will: train it in a loop of your own, or ``fit``.

    ``kept_float`` names the layers that stay in float and why. ``verified`` compares the module,
    before any rounding, with ONNX Runtime on the original graph. ``warnings`` tell what the
    samples lack, and of frozen parameters that could not be kept apart from trained ones.
    """

    module: Network
    template: Model
    kept_float: tuple[str, ...]
    verified: Verified
    warnings: tuple[str, ...] = ()

    def fit(
        self,
        loader: Iterable[object],
        loss: Loss,
        *,
        epochs: int = 3,
        lr: float = 1e-4,
        progress: Progress = silent,
    ) -> History:
        """Train with Adam on ``loader``'s ``(inputs, targets)``; ``loss(outputs, targets)``.

        Where the loader has a length the rate falls to 0 as a cosine. Raises ``InputError`` where
        the loader yields nothing or the loss is not a finite number.
        """
        return run_fit(self.module, loader, loss, epochs=epochs, lr=lr, progress=progress)

    def model(self) -> Model:
        """The ONNX model of the module as it is now, with QuantizeLinear and DequantizeLinear."""
        made, module = self.template.clone(), self.module
        graph = made.ir.graph
        arrays = {
            name: module.weight(name).detach().cpu().numpy()
            for name in module.trained
            if name in graph.initializers
        }
        for step in module.steps:
            arrays.update(step.constants(module))
        for name, array in arrays.items():
            graph.initializers[name].const_value = ir.tensor(array.copy(), name=name)
        made.journal.add("quantize_aware", len(arrays))
        return made

    def export(self, path: str | Path) -> Path:
        """Write ``model()`` to ``path``. Raises ``ModelError`` where it cannot be written."""
        return self.model().save(path)

    def to_dict(self) -> dict[str, object]:
        return {
            "scales": len(self.module.grids),
            "parameters": sum(parameter.numel() for parameter in self.module.parameters()),
            "kept_float": [
                dict(zip(("node", "why"), reason.split(": ", 1), strict=False))
                for reason in self.kept_float
            ],
            "verified": self.verified.to_dict(),
            "warnings": list(self.warnings),
        }
