"""What is in a model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, require
from onnxpress.finding import Check, Finding
from onnxpress.liveness import peak
from onnxpress.model import Model
from onnxpress.modules import module_of
from onnxpress.settings import Settings
from onnxpress.signature import Signature
from onnxpress.sizing import Given, sized
from onnxpress.values import name_of
from onnxpress.verbs.fusions import Fusions, fusions
from onnxpress.verbs.layers import Layer, layers, operators
from onnxpress.verbs.scales import Scale, scales

ENGINE = "onnxruntime"


@dataclass(frozen=True)
class ActivationPeak:
    """The most bytes that tensors take at once (``liveness``), and at which node.

    At least so many where the sizes of ``unknown`` tensors are not known.
    """

    bytes: int
    node: str
    module: str
    unknown: int


@dataclass(frozen=True)
class Inspected:
    """The facts of one model. ``parameters`` counts weights' elements.

    ``sizes`` are those of the free dimensions that ``macs``, ``peak`` and ``layers`` hold for.
    """

    nodes: int
    ops: Mapping[str, int]
    signature: Signature
    parameters: int
    sizes: Mapping[str, int]
    peak: ActivationPeak
    layers: tuple[Layer, ...]
    size_bytes: int
    opsets: Mapping[str, int]
    ir_version: int
    metadata: Mapping[str, str]
    redundant: tuple[Finding, ...]
    modules: Mapping[str, str]
    fusions: Fusions
    scales: tuple[Scale, ...]
    journal: tuple[Mapping[str, object], ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all nodes whose sizes are known."""
        return sum((layer.macs or 0) * layer.runs for layer in self.layers)

    @property
    def macs_unknown(self) -> int:
        """How many nodes multiply matrices of sizes that are not known."""
        return sum(layer.macs is None for layer in self.layers)

    def to_dict(self) -> dict[str, object]:
        return {
            "nodes": self.nodes,
            "ops": dict(self.ops),
            **self.signature.to_dict(),
            "parameters": self.parameters,
            "sizes": dict(self.sizes),
            "macs": self.macs,
            "macs_unknown": self.macs_unknown,
            "activation_peak_bytes": self.peak.bytes,
            "activation_peak": asdict(self.peak),
            "size_bytes": self.size_bytes,
            "opsets": dict(self.opsets),
            "ir_version": self.ir_version,
            "metadata": dict(self.metadata),
            "redundant": [
                {
                    "node": finding.where,
                    "op": finding.op,
                    "why": finding.what,
                    "module": self.modules.get(finding.where, ""),
                }
                for finding in self.redundant
            ],
            "fusions": self.fusions.to_dict(),
            "operators": {op: total.to_dict() for op, total in operators(self.layers).items()},
            "layers": [layer.to_dict() for layer in self.layers],
            "scales": [scale.to_dict() for scale in self.scales],
            "journal": [dict(entry) for entry in self.journal],
        }


def inspect(model: Model, shapes: Given | None = None) -> Inspected:
    """Count, measure and diagnose; model functions are inlined, subgraphs included.

    Free dimensions have the sizes of ``shapes`` (an input's shape, or one dimension's size), and
    1 where nothing is given. A model that was given a library of operators is opened with it.
    Raises ``EngineError`` where that fails, ``InputError`` for shapes that do not fit.
    """
    inlined = model.inlined()
    known, sizes = sized(inlined, shapes)
    if model.custom_ops is not None:
        _open(model)
    ops = inlined.op_counts()
    check = registry.create(Check, "checks", "redundant_nodes")
    most = peak(inlined.ir.graph, known)
    place = ("", "") if most.node is None else (name_of(most.node), module_of(most.node))
    modules: dict[str, str] = {}
    for node in inlined.nodes():
        modules.setdefault(name_of(node), module_of(node))
    return Inspected(
        nodes=sum(ops.values()),
        ops=ops,
        signature=inlined.signature,
        parameters=inlined.parameters,
        sizes=sizes,
        peak=ActivationPeak(most.bytes, *place, most.unknown),
        layers=layers(inlined, known),
        size_bytes=model.file_bytes if model.path else model.size_bytes,
        opsets={domain or "ai.onnx": v for domain, v in model.ir.opset_imports.items()},
        ir_version=model.ir.ir_version,
        metadata=model.metadata,
        redundant=tuple(check.findings(inlined)),
        modules=modules,
        fusions=fusions(inlined),
        scales=scales(inlined),
        journal=tuple(entry.to_dict() for entry in model.journal.entries),
    )


def _open(model: Model) -> None:
    engine = registry.create(Engine, "engines", ENGINE)
    require(engine, ENGINE)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = model.path or model.clone().save(Path(folder) / "model.onnx")
        engine.open(path, Settings(ENGINE, custom_ops=model.custom_ops)).close()
