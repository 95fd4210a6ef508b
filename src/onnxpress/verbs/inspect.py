"""What is in a model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, require
from onnxpress.finding import Check, Finding
from onnxpress.macs import macs_per_node
from onnxpress.model import Model
from onnxpress.settings import Settings
from onnxpress.signature import Signature

ENGINE = "onnxruntime"


@dataclass(frozen=True)
class Inspected:
    """The facts of one model. ``parameters`` counts weights' elements, ``macs`` is for batch 1."""

    nodes: int
    ops: Mapping[str, int]
    signature: Signature
    parameters: int
    macs: int
    size_bytes: int
    opsets: Mapping[str, int]
    ir_version: int
    metadata: Mapping[str, str]
    redundant: tuple[Finding, ...]
    journal: tuple[Mapping[str, object], ...]

    def to_dict(self) -> dict[str, object]:
        return {
            "nodes": self.nodes,
            "ops": dict(self.ops),
            **self.signature.to_dict(),
            "parameters": self.parameters,
            "macs": self.macs,
            "size_bytes": self.size_bytes,
            "opsets": dict(self.opsets),
            "ir_version": self.ir_version,
            "metadata": dict(self.metadata),
            "redundant": [
                {"node": finding.where, "op": finding.op, "why": finding.what}
                for finding in self.redundant
            ],
            "fusions": {"present": _fused(self.ops), "missed": []},
            "journal": [dict(entry) for entry in self.journal],
        }


def inspect(model: Model) -> Inspected:
    """Count, measure and diagnose; model functions are inlined, subgraphs included.

    A model that was given a library of operators is opened with it. Raises ``EngineError`` where
    that fails.
    """
    if model.custom_ops is not None:
        engine = registry.create(Engine, "engines", ENGINE)
        require(engine, ENGINE)
        with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
            path = model.path or model.clone().save(Path(folder) / "model.onnx")
            engine.open(path, Settings(ENGINE, custom_ops=model.custom_ops)).close()
    inlined = model.inlined()
    ops = inlined.op_counts()
    check = registry.create(Check, "checks", "redundant_nodes")
    return Inspected(
        nodes=sum(ops.values()),
        ops=ops,
        signature=inlined.signature,
        parameters=inlined.parameters,
        macs=sum(macs_per_node(inlined).values()),
        size_bytes=model.file_bytes if model.path else model.size_bytes,
        opsets={domain or "ai.onnx": v for domain, v in model.ir.opset_imports.items()},
        ir_version=model.ir.ir_version,
        metadata=model.metadata,
        redundant=tuple(check.findings(inlined)),
        journal=tuple(asdict(entry) for entry in model.journal.entries),
    )


FUSED = {
    "Attention",
    "BiasGelu",
    "EmbedLayerNormalization",
    "FastGelu",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "GRU",
    "Gelu",
    "LSTM",
    "LayerNormalization",
    "MultiHeadAttention",
    "RMSNormalization",
    "RotaryEmbedding",
    "SkipLayerNormalization",
}
"""Operators that stand for what was many."""


def _fused(ops: Mapping[str, int]) -> dict[str, int]:
    short = {name: name.rpartition("::")[2] for name in ops}
    return {short[name]: count for name, count in ops.items() if short[name] in FUSED}
