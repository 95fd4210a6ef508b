"""Sparse initializers as dense ones: onnx-ir does not read them, and engines make them dense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper


def load_dense(path: Path) -> ir.Model | None:
    """The model at ``path`` with each sparse initializer written out; None where it has none.

    Raises ``ValueError`` for one that is damaged, or too large.
    """
    proto = onnx.load(path, load_external_data=False)
    graphs = [graph for graph in _graphs(proto.graph) if graph.sparse_initializer]
    for graph in graphs:
        graph.initializer.extend(map(_dense, graph.sparse_initializer))
        del graph.sparse_initializer[:]
    if not graphs:
        return None
    model = ir.from_proto(proto)
    for inner in model.graphs():
        ir.external_data.set_base_dir(inner, path.parent)
    return model


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """Indices are [count], into the flattened tensor, or [count, rank]."""
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    try:
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if places.ndim == 2:
            places = np.ravel_multi_index(tuple(places.T), dense.shape)
        dense.reshape(-1)[places] = values
    except (IndexError, MemoryError) as error:
        raise ValueError(f"the sparse tensor '{sparse.values.name}': {error}") from error
    return numpy_helper.from_array(dense, sparse.values.name)
