"""A model written as one protobuf message, without a second copy of its weights.

protobuf itself would hold the whole message and then its bytes, both beside the weights. But the
fields of a message may come in any order (protobuf's encoding guide), so that large initializers
are the last ones of the graph, each written straight from its own tensor. The model's own fields
stay in order: OpenVINO takes a file that has two opset imports before the graph for none of ONNX.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

LARGE_BYTES = 1 << 16
"""Initializers of at least so many bytes are written from where they are."""
GRAPH, INITIALIZER, RAW_DATA = (number << 3 | 2 for number in (7, 5, 9))
"""Tags of ``ModelProto.graph``, ``GraphProto.initializer`` and ``TensorProto.raw_data``."""


def write(model: ir.Model, path: Path) -> None:
    """Write ``model`` to ``path``, as ``onnx.save`` would but for the order of its fields."""
    large = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and _is_large(value.const_value)
    }
    with _apart(model.graph, large):
        shell = ir.to_proto(model)
    heads = [(_head(tensor, large), large.get(tensor.name)) for tensor in shell.graph.initializer]
    shell.graph.ClearField("initializer")
    graph = shell.graph.SerializeToString()
    shell.ClearField("graph")
    sizes = [len(head) + (tensor.nbytes if tensor else 0) for head, tensor in heads]
    total = len(graph) + sum(len(_prefix(INITIALIZER, size)) + size for size in sizes)
    before, after = _parted(shell)
    with path.open("wb") as file:
        file.write(before + _prefix(GRAPH, total) + graph)
        for (head, tensor), size in zip(heads, sizes, strict=True):
            file.write(_prefix(INITIALIZER, size) + head)
            if tensor:
                file.write(tensor.tobytes())
        file.write(after)


def _parted(shell: onnx.ModelProto) -> tuple[bytes, bytes]:
    """The fields that come before the graph, and those after it."""
    before, after = onnx.ModelProto(), onnx.ModelProto()
    before.CopyFrom(shell)
    after.CopyFrom(shell)
    for field, _ in shell.ListFields():
        (after if field.number << 3 < GRAPH else before).ClearField(field.name)
    return bytes(before.SerializeToString()), bytes(after.SerializeToString())


def _is_large(tensor: ir.TensorProtocol) -> bool:
    strings = tensor.dtype == ir.DataType.STRING
    return (
        not strings and not isinstance(tensor, ir.ExternalTensor) and tensor.nbytes >= LARGE_BYTES
    )


@contextlib.contextmanager
def _apart(graph: ir.Graph, large: Mapping[str, ir.TensorProtocol]) -> Iterator[None]:
    """Within it the large initializers are references to a file, which take no room."""
    for name, tensor in large.items():
        graph.initializers[name].const_value = ir.ExternalTensor(
            "", None, None, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name,
            doc_string=tensor.doc_string, metadata_props=dict(tensor.metadata_props),
        )  # fmt: skip
    try:
        yield
    finally:
        for name, tensor in large.items():
            graph.initializers[name].const_value = tensor


def _head(tensor: onnx.TensorProto, large: Mapping[str, ir.TensorProtocol]) -> bytes:
    """The message up to the bytes of a large tensor; the whole message of another one."""
    if tensor.name not in large:
        return bytes(tensor.SerializeToString())
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")
    return bytes(tensor.SerializeToString()) + _prefix(RAW_DATA, large[tensor.name].nbytes)


def _prefix(tag: int, size: int) -> bytes:
    """A field's tag and the length of what follows, as a varint."""
    parts = [tag]
    while size > 0x7F:
        parts.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*parts, size])
