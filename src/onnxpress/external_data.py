"""Tensors that live in files beside a model: found, checked, held in memory, replaced.

The rules are those of ONNX's "External Data": a location is relative to the model's folder and
stays inside it (CVE-2022-25882).
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from onnxpress.errors import ModelError


def check_external_data(graph: ir.Model, path: Path) -> None:
    """Raise ``ModelError`` where data of the model at ``path`` is missing, short or elsewhere."""
    for tensor in external_tensors(graph):
        # Absolute, so that the data is found wherever the process goes meanwhile.
        tensor.base_dir = path.parent.absolute()
        error = fault(tensor, path)
        if error is not None:
            raise error


def fault(tensor: ir.ExternalTensor, path: Path) -> ModelError | None:
    """Why the data of ``tensor``, of the model at ``path``, cannot be read or must not be."""
    folder, location = path.parent.resolve(), Path(str(tensor.location))
    inside = (folder / location).resolve().is_relative_to(folder)
    if location.is_absolute() or ".." in location.parts or not inside:
        return ModelError(
            f"{path}: tensor '{tensor.name}' points outside the model's folder ({location})",
            "external data beside the model",
        )
    if not (folder / location).is_file():
        return ModelError(
            f"{path}: external data {location} of tensor '{tensor.name}' is missing",
            f"the file in {path.parent}",
        )
    found, start = (folder / location).stat(), tensor.offset or 0
    if found.st_nlink > 1:
        return ModelError(
            f"{path}: external data {location} is a hard link, maybe to a file elsewhere",
            "a file of its own",
            f"copy it and rename the copy to {location}",
        )
    end = start + max(tensor.length or 0, tensor.nbytes)
    if start < 0 or found.st_size < end:
        return ModelError(
            f"{path}: external data {location} has {found.st_size} bytes",
            f"bytes {start} to {end} for tensor '{tensor.name}'",
        )
    return None


def rooms(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    """The graph, the model-local functions and all their subgraphs."""
    yield from model.graphs()
    for function in model.functions.values():
        yield function
        yield from function.subgraphs()


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Every initializer and attribute whose values are in a file, functions included."""
    for room in rooms(model):
        for value in room.initializers.values() if isinstance(room, ir.Graph) else ():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value
        for attribute in (attribute for node in room for attribute in node.attributes.values()):
            for tensor in _tensors(attribute):
                if isinstance(tensor, ir.ExternalTensor):
                    yield tensor


def _tensors(attribute: ir.Attr) -> tuple[ir.TensorProtocol, ...]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.TENSOR:
        return (attribute.value,)
    return tuple(attribute.value) if attribute.type == ir.AttributeType.TENSORS else ()


@contextlib.contextmanager
def embedded(model: ir.Model) -> Iterator[None]:
    """Within the block, tensors that live in external files are mapped into memory instead."""
    with contextlib.ExitStack() as undo:
        for room in rooms(model):
            for value in room.initializers.values() if isinstance(room, ir.Graph) else ():
                if isinstance(value.const_value, ir.ExternalTensor):
                    undo.callback(setattr, value, "const_value", value.const_value)
                    value.const_value = _held(value.const_value)
            for node in room:
                for name, attribute in list(node.attributes.items()):
                    tensors = _tensors(attribute)
                    if any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
                        undo.callback(node.attributes.__setitem__, name, attribute)
                        held = [_held(tensor) for tensor in tensors]
                        one = attribute.type == ir.AttributeType.TENSOR
                        node.attributes[name] = (
                            ir.AttrTensor(name, held[0]) if one else ir.AttrTensors(name, held)
                        )
        yield


def _held(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """An external tensor as one in memory, which maps the file and copies nothing; others as is."""
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def fresh(path: Path) -> str:
    """A name that no file has: the old graph needs its old data until the rename."""
    name = f"{path.name}.data"
    return name if not (path.parent / name).exists() else f"{path.name}.{uuid.uuid4().hex[:8]}.data"


def data_files(path: Path) -> set[str]:
    """The data files of our own naming that the model at ``path`` refers to."""
    ours = re.compile(re.escape(path.name) + r"(\.[0-9a-f]{8})?\.data")
    beside = {found.name for found in path.parent.glob("*.data") if ours.fullmatch(found.name)}
    if not beside:
        return set()
    try:
        old = ir.load(path, format="protobuf")
    except Exception:  # noqa: BLE001  # whatever stands there is about to be replaced
        return set()
    return beside & {str(tensor.location) for tensor in external_tensors(old)}
