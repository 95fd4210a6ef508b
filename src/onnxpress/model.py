"""Model: an ONNX graph with its journal, loaded and saved without loss.

Tensors are immutable and shared between clones; external data stays memory-mapped. A file past
protobuf's 2 GB goes to one ``.data`` file beside it. Both files are written whole under other
names and renamed, the graph last, so an interrupted save leaves the old model as it was.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import google.protobuf.message
import onnx_ir as ir
import onnx_ir.passes.common

from onnxpress.errors import ModelError
from onnxpress.signature import Signature, TensorSpec

JOURNAL_KEY = "onnxpress.journal"
EXTERNAL_DATA_BYTES = 1 << 30
"""Initializers of more bytes than this go to external data; protobuf's own limit is 2 GiB."""


@dataclass(frozen=True)
class Entry:
    """One step that made the model what it is."""

    step: str
    rewrites: int
    refusals: tuple[str, ...] = ()


@dataclass
class Journal:
    """Every step since the export, oldest first; saved in the model's metadata."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, step: str, rewrites: int, refusals: tuple[str, ...] = ()) -> None:
        self.entries.append(Entry(step, rewrites, refusals))

    def to_json(self) -> str:
        return json.dumps([asdict(entry) for entry in self.entries])

    @classmethod
    def from_json(cls, text: str) -> Journal:
        """The journal of ``text``; metadata that is not ours reads as an empty journal."""
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            return cls(
                [
                    Entry(str(raw["step"]), int(raw["rewrites"]), tuple(raw["refusals"]))
                    for raw in json.loads(text)
                ]
            )
        return cls()


class Model:
    """An ONNX model. ``ir`` is the graph (onnx-ir), ``path`` the file it came from, if any."""

    def __init__(self, graph: ir.Model, path: Path | None = None) -> None:
        self.ir = graph
        self.path = path
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
        """Bytes of the model when it is saved: the weights and everything else."""
        shell = self.clone()
        for graph in shell.ir.graphs():
            for value in graph.initializers.values():
                value.const_value = None
            graph.initializers.clear()
        return self.weight_bytes + int(ir.to_proto(shell.ir).ByteSize())

    @property
    def parameters(self) -> int:
        """Elements of all float and quantised weights: initializers with at least one dimension.

        Shared tensors count once; shapes and indices (int32, int64) do not count.
        """
        tensors = {
            id(value.const_value): value.const_value.size
            for graph in self.ir.graphs()
            for value in graph.initializers.values()
            if value.const_value is not None
            and len(value.const_value.shape) > 0
            and value.const_value.dtype not in (ir.DataType.INT64, ir.DataType.INT32)
        }
        return sum(tensors.values())

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
        copy = Model(self.ir.clone(), self.path)
        copy.journal = Journal(list(self.journal.entries))
        return copy

    def save(self, path: str | Path) -> Path:
        """Write to ``path`` (and ``path.data`` for large weights), all or nothing.

        Raises ``ModelError`` where the folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise ModelError(f"cannot write {path}", "an existing folder", f"create {path.parent}")
        if self.journal.entries:
            self.ir.metadata_props[JOURNAL_KEY] = self.journal.to_json()
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            written = Path(folder) / path.name
            data = f"{path.name}.data"
            if self.weight_bytes <= EXTERNAL_DATA_BYTES:
                with _embedded(self.ir):
                    ir.save(self.ir, written)
                data = ""
            else:
                data = _fresh(path, data)
                ir.save(self.ir, written, external_data=data)
                Path(Path(folder) / data).replace(path.parent / data)
            old = _data_files(path)
            Path(written).replace(path)
        for stale in old - {data}:
            (path.parent / stale).unlink(missing_ok=True)
        return path


def load(path: str | Path) -> Model:
    """Read an ONNX file. External data stays on disk until it is used.

    Raises ``ModelError`` for a missing, truncated or non-ONNX file, and for external data that
    is missing or leaves the model's folder (absolute paths, ``..``, links; CVE-2022-25882).
    """
    path = Path(path)
    if path.is_dir():
        raise ModelError(f"{path} is a folder", "an ONNX file")
    if not path.is_file():
        raise ModelError(f"{path} does not exist", "an ONNX file")
    try:
        graph = ir.load(path)
    except (google.protobuf.message.DecodeError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} cannot be read as ONNX ({_first_line(error)})", "a whole ONNX file"
        ) from error
    if not graph.opset_imports or not (list(graph.graph) or graph.graph.outputs):
        raise ModelError(f"{path} holds no ONNX graph", "a whole ONNX file")
    _check_external_data(graph, path)
    return Model(graph, path)


def external_data_files(model: Model) -> list[Path]:
    """The files beside the model that hold its external data, sorted."""
    return sorted({Path(tensor.path) for tensor in _external_tensors(model.ir)})


def _check_external_data(graph: ir.Model, path: Path) -> None:
    folder = path.parent.resolve()
    for tensor in _external_tensors(graph):
        location = Path(str(tensor.location))
        inside = (folder / location).resolve().is_relative_to(folder)
        if location.is_absolute() or ".." in location.parts or not inside:
            raise ModelError(
                f"{path}: tensor '{tensor.name}' points outside the model's folder ({location})",
                "external data beside the model",
            )
        if not (folder / location).is_file():
            raise ModelError(
                f"{path}: external data {location} of tensor '{tensor.name}' is missing",
                f"the file in {path.parent}",
            )
        size, end = (folder / location).stat().st_size, (tensor.offset or 0) + (tensor.length or 0)
        if size < end:
            raise ModelError(
                f"{path}: external data {location} has {size} bytes",
                f"at least {end} for tensor '{tensor.name}'",
            )


def _external_tensors(graph: ir.Model) -> Iterator[ir.ExternalTensor]:
    for inner in graph.graphs():
        for value in inner.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value
        for node in inner:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and isinstance(
                    attribute.value, ir.ExternalTensor
                ):
                    yield attribute.value


@contextlib.contextmanager
def _embedded(model: ir.Model) -> Iterator[None]:
    """Within the block, initializers that live in external files are held in memory instead."""
    values = [
        (value, value.const_value)
        for graph in model.graphs()
        for value in graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    ]
    for value, tensor in values:
        assert tensor is not None
        value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    try:
        yield
    finally:
        for value, tensor in values:
            value.const_value = tensor


def _fresh(path: Path, name: str) -> str:
    """``name``, or one that no file has: the old graph needs its old data until the rename."""
    return name if not (path.parent / name).exists() else f"{path.name}.{uuid.uuid4().hex[:8]}.data"


def _data_files(path: Path) -> set[str]:
    """The data files of our own naming that the model at ``path`` refers to."""
    try:
        old = ir.load(path)
    except Exception:  # noqa: BLE001  # whatever stands there is about to be replaced
        return set()
    names = {str(tensor.location) for tensor in _external_tensors(old)}
    return {name for name in names if name.startswith(f"{path.name}.") and name.endswith(".data")}


def _spec(value: ir.Value) -> TensorSpec:
    dtype = "object" if value.dtype == ir.DataType.STRING else _dtype_name(value.dtype)
    shape = value.shape
    dims = None if shape is None else tuple(_dim(dim) for dim in shape)
    return TensorSpec(value.name or "", dtype, dims)


def _dim(dim: int | ir.SymbolicDim) -> int | str:
    return dim if isinstance(dim, int) else dim.value or "?"


def _dtype_name(dtype: ir.DataType | None) -> str:
    return "unknown" if dtype is None else dtype.numpy().name


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
