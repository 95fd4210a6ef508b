"""Watches a model's activations on samples and gathers the facts that passes need."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpress import registry
from onnxpress.calibrator import Calibrator, Range
from onnxpress.engine import Engine, Executed, require
from onnxpress.model import Model
from onnxpress.recipe import Facts, Kernels, Pass, Ranges
from onnxpress.settings import Settings
from onnxpress.shapes import Shapes
from onnxpress.signature import Feeds
from onnxpress.values import is_op

ENGINE = "onnxruntime"
HOLLOW_BYTES = 64 << 10
"""Weights of more bytes are large: nothing that ONNX Runtime rewrites looks into them."""
SEQUENCES = (
    "Optional",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceMap",
    "SplitToSequence",
)
"""What makes lists of tensors; onnx-ir's shape inference takes each for one tensor."""


def gather(
    step: Pass, model: Model, batches: Callable[[], Iterable[Feeds]], threads: int | None = None
) -> Facts:
    """The facts that ``step`` needs about ``model``; nothing is run where it needs none.

    ``batches`` is called once for each kind of fact. Raises ``EngineError`` where ONNX Runtime
    is missing or cannot run the model.
    """
    ranges: Mapping[str, Range] = {}
    kernels: tuple[Executed, ...] = ()
    for need in step.needs():
        if isinstance(need, Ranges):
            calibrator = registry.create(Calibrator, "calibrators", need.calibrator)
            observe(model, batches(), calibrator, threads)
            ranges = calibrator.ranges()
        elif isinstance(need, Kernels):
            kernels = executed(model)
    return Facts(ranges, kernels)


def executed(model: Model) -> tuple[Executed, ...]:
    """The kernels that ONNX Runtime runs for ``model``. Raises ``EngineError`` where it cannot.

    What it fuses depends on the sizes of large weights, not on their numbers: it gets a file of
    zeros in their place, a hole that takes no room on disk or in memory.
    """
    engine = registry.create(Engine, "engines", ENGINE)
    require(engine, ENGINE)
    options = {"session.disable_prepacking": "1"}
    settings = Settings(ENGINE, options=options, custom_ops=model.custom_ops)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(_hollow(model, Path(folder)).ir, path)
        with engine.open(path, settings) as session:
            return session.executed()


def _hollow(model: Model, folder: Path) -> Model:
    shell, largest = model.clone(), 0
    for graph in shell.ir.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None:
                continue
            large = len(tensor.shape) > 1 and tensor.nbytes >= HOLLOW_BYTES
            if not large or not tensor.dtype.is_floating_point():
                if isinstance(tensor, ir.ExternalTensor):  # its file is elsewhere
                    (value.const_value,) = ir.external_data.convert_tensors_from_external([tensor])
                continue
            largest = max(largest, tensor.nbytes)
            value.const_value = ir.ExternalTensor(
                "zeros", 0, tensor.nbytes, tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()), name=str(value.name), base_dir=folder,
            )  # fmt: skip
    with (folder / "zeros").open("wb") as file:
        file.truncate(largest)
    return shell


def observe(
    model: Model, batches: Iterable[Feeds], calibrator: Calibrator, threads: int | None = None
) -> None:
    """Run ``model`` on each batch and show the calibrator every float activation.

    One batch's activations are in memory at a time.
    """
    engine = registry.create(Engine, "engines", ENGINE)
    require(engine, ENGINE)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = _tapped(model).save(Path(folder) / "tapped.onnx")
        with engine.open(
            path, Settings(ENGINE, threads=threads, custom_ops=model.custom_ops)
        ) as session:
            for feeds in batches:
                seen = {**session.run(feeds), **feeds}
                calibrator.observe(
                    {name: a for name, a in seen.items() if np.issubdtype(a.dtype, np.floating)}
                )


def _tapped(model: Model) -> Model:
    """A clone whose float activations are all outputs."""
    tapped = model.clone()
    passes.ShapeInferencePass(check_type=False, strict_mode=False)(tapped.ir)
    shapes, outputs = Shapes(tapped.ir), tapped.ir.graph.outputs
    for node in tapped.ir.graph:
        for value in node.outputs:
            if is_op(node, *SEQUENCES):
                value.type = value.shape = None
            elif value.type is None:  # behind operators that onnx does not know
                dtype = shapes.dtype(value)
                value.type = None if dtype is None else ir.TensorType(dtype)
            if value.dtype == ir.DataType.FLOAT and value.uses() and not value.is_graph_output():
                outputs.append(value)
    return tapped
