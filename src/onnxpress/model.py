"""Model: an ONNX graph with its journal, loaded and saved without loss.

Tensors are immutable and shared between clones; external data stays memory-mapped. A file past
protobuf's 2 GB goes to one ``.data`` file beside it. Both files are written whole under other
names and renamed, the graph last, so an interrupted save leaves the old model as it was.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import google.protobuf.message
import numpy as np
import onnx.checker
import onnx.shape_inference
import onnx_ir as ir
import onnx_ir.passes.common

from onnxpress import maps
from onnxpress.errors import ModelError, first_line
from onnxpress.external_data import (
    check_external_data,
    data_files,
    embedded,
    external_tensors,
    fresh,
    rooms,
)
from onnxpress.lineage import Rewritten
from onnxpress.protobuf import write
from onnxpress.signature import Signature, TensorSpec
from onnxpress.sparse import load_dense

JOURNAL_KEY = "onnxpress.journal"
EXTERNAL_DATA_BYTES = 1 << 30
"""Initializers of more bytes than this go to external data; protobuf's own limit is 2 GiB."""
MAPPED_BYTES = 64 << 20
"""What is written only to be read again has more weights than this in a file of their own."""

MOST_LETTERS = 100_000
"""Names of nodes that a journal holds at most, in letters: later steps do not tell theirs."""

FOREIGN = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What reading another program's metadata as a journal may raise."""
KNOWN, CONTRIB = ("ai.onnx", "com.microsoft", "com.ms.", "org.pytorch.aten"), "ai.onnx.contrib"
"""Domains, by their beginnings, that ONNX Runtime has operators of; but a package has the last."""
UNREADABLE = (google.protobuf.message.DecodeError, ir.serde.SerdeError, *FOREIGN)


@dataclass(frozen=True)
class Entry:
    """One step that made the model what it is, and which ``nodes`` became which, if it is known."""

    step: str
    rewrites: int
    refusals: tuple[str, ...] = ()
    nodes: tuple[Rewritten, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """What a person wants to know of it: not ``nodes``, which ``diff`` tells."""
        return {"step": self.step, "rewrites": self.rewrites, "refusals": self.refusals}


@dataclass
class Journal:
    """Every step since the export, oldest first; saved in the model's metadata."""

    entries: list[Entry] = field(default_factory=list)

    def add(
        self,
        step: str,
        rewrites: int,
        refusals: tuple[str, ...] = (),
        nodes: tuple[Rewritten, ...] = (),
    ) -> None:
        """``nodes`` are left out where the journal would get too large."""
        known = sum(_letters(entry.nodes) for entry in self.entries)
        kept = nodes if known + _letters(nodes) <= MOST_LETTERS else ()
        self.entries.append(Entry(step, rewrites, refusals, kept))

    def to_json(self) -> str:
        told = [
            {
                **{key: value for key, value in entry.to_dict().items() if value != ()},
                **({"nodes": [[n.gone, n.made] for n in entry.nodes]} if entry.nodes else {}),
            }
            for entry in self.entries
        ]
        return json.dumps(told, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Journal:
        """The journal of ``text``; metadata that is not ours reads as an empty journal."""
        with contextlib.suppress(*FOREIGN):
            return cls(
                [
                    Entry(
                        str(raw["step"]),
                        int(raw["rewrites"]),
                        tuple(raw.get("refusals", ())),
                        tuple(
                            Rewritten(tuple(map(str, gone)), tuple(map(str, made)))
                            for gone, made in raw.get("nodes", ())
                        ),
                    )
                    for raw in json.loads(text)
                ]
            )
        return cls()


def _letters(nodes: tuple[Rewritten, ...]) -> int:
    return sum(len(name) for group in nodes for name in (*group.gone, *group.made))


class Model:
    """An ONNX model. ``ir`` is the graph (onnx-ir), ``path`` the file it came from, if any.

    ``custom_ops`` is the shared library on this machine that has its operators; no file holds it.
    """

    def __init__(
        self, graph: ir.Model, path: Path | None = None, custom_ops: Path | None = None
    ) -> None:
        self.ir = graph
        self.path, self.custom_ops = path, custom_ops
        self.journal = Journal.from_json(graph.metadata_props.get(JOURNAL_KEY, ""))

    @property
    def signature(self) -> Signature:
        """Inputs (initializers left out) and outputs."""
        graph = self.ir.graph
        inputs = [value for value in graph.inputs if value.name not in graph.initializers]
        return Signature(tuple(map(_spec, inputs)), tuple(map(_spec, graph.outputs)))

    @property
    def metadata(self) -> dict[str, str]:
        """The model's own key-value metadata; writes go to the file at ``save``."""
        return self.ir.metadata_props

    def nodes(self) -> Iterator[ir.Node]:
        """Every node, subgraphs included."""
        return ir.traversal.RecursiveGraphIterator(self.ir.graph)

    def op_counts(self) -> dict[str, int]:
        """Operator → count, subgraphs included; operators of other domains as ``domain::Op``."""
        counts: dict[str, int] = {}
        for node in self.nodes():
            name = (
                node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
            )
            counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def custom_operators(self) -> tuple[str, ...]:
        """``domain::Op`` of each operator that neither ONNX nor ONNX Runtime itself defines."""
        own = {(function.domain, function.name) for function in self.ir.functions.values()}
        found = {
            f"{node.domain}::{node.op_type}"
            for node in self.nodes()
            if node.domain.startswith(CONTRIB)
            or not (node.domain.startswith(KNOWN) or node.domain == "")
            if (node.domain, node.op_type) not in own
        }
        return tuple(sorted(found))

    @property
    def weight_bytes(self) -> int:
        """Bytes of all initializers, subgraphs included; shared tensors count once."""
        tensors = {
            id(value.const_value): value.const_value.nbytes
            for graph in self.ir.graphs()
            for value in graph.initializers.values()
            if value.const_value is not None
        }
        return sum(tensors.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of the model when it is saved: the weights, the journal and everything else."""
        shell, weights = self.clone(), 0
        shell._write_journal()
        for graph in shell.ir.graphs():
            for value in graph.initializers.values():
                if value.const_value is not None:
                    weights += value.const_value.nbytes
                    value.const_value = _hollow(value.const_value)
        return weights + int(ir.to_proto(shell.ir).ByteSize())

    @property
    def parameters(self) -> int:
        """Elements of all float and quantised weights: initializers with at least one dimension.

        Shared tensors count once; shapes and indices (int32, int64), scales and zero points do not.
        """
        seen: set[int] = set()
        return sum(
            self.parameters_of(value, seen)
            for graph in self.ir.graphs()
            for value in graph.initializers.values()
        )

    def parameters_of(self, value: ir.Value, seen: set[int]) -> int:
        """The parameters that ``value`` holds, if its tensor is not in ``seen``, where it goes."""
        tensor = value.const_value if value.is_initializer() else None
        if tensor is None or id(tensor) in seen:
            return 0
        whole = tensor.dtype in (ir.DataType.INT64, ir.DataType.INT32)
        if len(tensor.shape) == 0 or whole or _scales(value):
            return 0
        seen.add(id(tensor))
        return int(tensor.size)

    @property
    def file_bytes(self) -> int:
        """Bytes on disk of the file that the model came from and its external data."""
        assert self.path is not None
        return sum(path.stat().st_size for path in (self.path, *external_data_files(self)))

    def inlined(self) -> Model:
        """A clone in which the calls of model-local functions are replaced by their bodies."""
        clone = self.clone()
        if clone.ir.functions:
            ir.passes.common.InlinePass()(clone.ir)
        return clone

    def clone(self) -> Model:
        """A model of its own with shared tensors: O(nodes), no copy of a weight."""
        copy = Model(self.ir.clone(), self.path, self.custom_ops)
        copy.journal = Journal(list(self.journal.entries))
        return copy

    def save(self, path: str | Path, external_bytes: int | None = None) -> Path:
        """Write to ``path``, all or nothing.

        Weights of more than ``external_bytes`` in all (1 GiB) go to ``path.data``. Raises
        ``ModelError`` where the folder does not exist or cannot be written.
        """
        path = Path(path)
        if path.is_dir():
            raise ModelError(f"cannot write {path}", "a file", "it is a folder")
        if not path.parent.is_dir():
            raise ModelError(f"cannot write {path}", "an existing folder", f"create {path.parent}")
        self._write_journal()
        limit = EXTERNAL_DATA_BYTES if external_bytes is None else external_bytes
        data = fresh(path) if self.weight_bytes > limit else ""
        try:
            # Data of this very model may be what is replaced; held in memory it stays readable.
            with embedded(self.ir):
                self._replace(path, data)
        except OSError as error:
            raise ModelError(
                f"cannot write {path} ({error.strerror or error})", "a folder with room to write"
            ) from error
        return path

    def _write_journal(self) -> None:
        if self.journal.entries:
            self.ir.metadata_props[JOURNAL_KEY] = self.journal.to_json()

    def _replace(self, path: Path, data: str) -> None:
        """Write beside ``path`` and rename, the graph last; then remove the old graph's data."""
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
            folder = Path(name)
            if data:
                ir.save(self.ir, folder / path.name, format="protobuf", external_data=data)
            else:
                write(self.ir, folder / path.name)
            old = data_files(path)
            try:
                if data:
                    (folder / data).replace(path.parent / data)
                (folder / path.name).replace(path)
            except BaseException:
                if data:
                    (path.parent / data).unlink(missing_ok=True)
                raise
        for stale in old - {data}:
            (path.parent / stale).unlink(missing_ok=True)


def load(path: str | Path, custom_ops: Path | None = None) -> Model:
    """Read an ONNX file. External data stays on disk until it is used.

    Raises ``ModelError`` for a missing, truncated or non-ONNX file, for a graph with a value that
    nothing makes or that is a map, and for external data that is missing or leaves the model's
    folder (absolute paths, ``..``, links; CVE-2022-25882).
    """
    model = peek(path, custom_ops)
    assert model.path is not None
    check_external_data(model.ir, model.path)
    return model


def peek(path: str | Path, custom_ops: Path | None = None) -> Model:
    """As ``load``, but external data is not looked at: only for who does not read weights."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder", "an ONNX file")
        if not path.is_file():
            raise ModelError(f"{path} does not exist", "an ONNX file")
        graph = _read(path)
        try:
            _check_values(graph, path)
        except ModelError:
            dense = load_dense(path)
            if dense is None:
                raise
            _check_values(graph := dense, path)
    except (*UNREADABLE, OSError) as error:
        raise ModelError(
            f"{path} cannot be read as ONNX ({first_line(error)})", "a whole ONNX file"
        ) from error
    if not (list(graph.graph) or graph.graph.outputs):
        raise ModelError(f"{path} holds no ONNX graph", "a whole ONNX file")
    if not graph.opset_imports:
        raise ModelError(f"{path} does not say its opset", "an opset_import", "export it again")
    return Model(graph, path, custom_ops)


def _read(path: Path) -> ir.Model:
    try:
        return ir.load(path, format="protobuf")
    except ir.serde.SerdeError as error:
        refusal = maps.refusal(path)
        if refusal is None:
            raise
        raise refusal from error


def check(path: Path) -> None:
    """Let onnx's checker and its strict shape inference read the file.

    Raises ``ModelError`` with the first fault.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"{path.name} is not valid ONNX ({first_line(error)})",
            "a model that onnx's checker takes",
        ) from error


def external_data_files(model: Model) -> list[Path]:
    """The files beside the model that hold its external data, sorted."""
    return sorted({Path(tensor.path) for tensor in external_tensors(model.ir)})


def _check_values(graph: ir.Model, path: Path) -> None:
    """onnx-ir reads what a damaged graph refers to as one more input; later steps would fail."""
    for room in rooms(graph):
        outputs = [(value, "the graph's outputs") for value in getattr(room, "outputs", ())]
        read = [(value, f"node '{node.name}'") for node in room for value in node.inputs if value]
        for value, reader in read + outputs:
            made = value.producer() or value.is_graph_input() or value.is_initializer()
            if not made or not isinstance(value.name, str):
                raise ModelError(
                    f"{path}: nothing makes the value {value.name!r} that {reader} takes",
                    "a whole ONNX file",
                )
        for node in room:
            if not all(
                isinstance(text or "", str) for text in (node.name, node.op_type, node.domain)
            ):
                raise ModelError(f"{path} names a node {node.name!r}", "UTF-8", "export it again")


def _hollow(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A tensor with everything of ``tensor`` but its values."""
    return ir.Tensor(np.empty((0,) * len(tensor.shape), np.uint8), name=tensor.name)


def _spec(value: ir.Value) -> TensorSpec:
    dtype = "object" if value.dtype == ir.DataType.STRING else _dtype_name(value.dtype)
    shape = value.shape
    dims = None if shape is None else tuple(_dim(dim) for dim in shape)
    return TensorSpec(value.name or "", dtype, dims)


def _dim(dim: int | ir.SymbolicDim) -> int | str:
    return dim if isinstance(dim, int) else dim.value or "?"


def _dtype_name(dtype: ir.DataType | None) -> str:
    return "unknown" if dtype is None or dtype == ir.DataType.UNDEFINED else dtype.numpy().name


def _scales(value: ir.Value) -> bool:
    """Whether it only says how others are quantised: a scale or a zero point."""
    first = {"QuantizeLinear": 1, "DequantizeLinear": 1, "MatMulInteger": 2, "ConvInteger": 2}
    uses = value.uses()
    return bool(uses) and all(index >= first.get(node.op_type, index + 1) for node, index in uses)
