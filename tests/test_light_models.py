"""The default recipe on nine classic networks, whole graphs that ship with the onnx package.

Their weights are constants, so every input gives the same output; seeded random ones take
their place here, scaled such that activations stay finite and outputs depend on the input.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.backend.test import data as onnx_data

from onnxpress.model import Model
from onnxpress.recipe import Recipe
from zoo.graphs import Array, answers, difference

RECIPE = "fold_constants,eliminate_identity,fuse_conv_bn,eliminate_dead"
FOLDER = Path(os.fspath(next(iter(onnx_data.__path__)))) / "light"
SLOW = ("bvlc_alexnet", "vgg19", "zfnet512")
GROWTH_BYTES = (1 << 20) + (1 << 16)
"""Folding's own bound, and names and shapes of the new constants."""
NAMES = sorted(path.stem.removeprefix("light_") for path in FOLDER.glob("light_*.onnx"))

every_model = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES]
)


def randomised(name: str) -> onnx.ModelProto:
    """The model with every float constant drawn anew, ``ConstantOfShape`` nodes included."""
    proto = onnx.load(FOLDER / f"light_{name}.onnx")
    graph, random = proto.graph, np.random.default_rng(0)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        arrays[node.output[0]] = np.zeros(arrays[node.input[0]], np.float32)
        graph.node.remove(node)
    roles = {name: (n.op_type, i) for n in graph.node for i, name in enumerate(n.input)}
    unsqueezed = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "Unsqueeze"}
    # Without training, residual networks end in logits so large that the softmax is 0 or 1.
    soften = {n.input[1]: np.float32(0.05) for n in graph.node if n.op_type == "Gemm"}
    soften = dict(list(soften.items())[-1:])
    del graph.initializer[:]
    for key, array in arrays.items():
        drawn = array
        if array.dtype == np.float32:
            role = roles.get(unsqueezed.get(key, key), ("", 0))
            drawn = draw(random, array.shape, role).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(drawn * soften.get(key, 1), key))
    # From this version on initializers need not be inputs; the ones that are stay inputs here.
    proto.ir_version = 4
    return proto


def draw(random: np.random.Generator, shape: tuple[int, ...], role: tuple[str, int]) -> Array:
    """He-scaled weights; factors and variances around 1; small biases and means."""
    noise = random.standard_normal(shape, np.float32)
    if role in {("Conv", 1), ("Gemm", 1)}:
        return noise * (2 / np.prod(shape[1:])) ** 0.5
    if role in {("BatchNormalization", 1), ("Mul", 1)}:
        return 1 + 0.2 * noise
    if role == ("BatchNormalization", 4):
        return 0.8 + np.abs(noise)
    return 0.1 * noise


def feeds(model: Model, seed: int) -> dict[str, Array]:
    """Noise around a colour of its own: noise alone is all but averaged away on the way."""
    (spec,) = model.signature.inputs
    shape = [dim for dim in (spec.shape or ()) if isinstance(dim, int)]
    random = np.random.default_rng(seed)
    colour = 2 * random.standard_normal((*shape[:2], 1, 1))
    return {spec.name: (random.standard_normal(shape) + colour).astype(np.float32)}


def assert_smaller(before: Model, after: Model) -> None:
    assert len(list(after.nodes())) <= len(list(before.nodes()))
    size = ir.to_proto(before.ir).ByteSize()
    assert ir.to_proto(after.ir).ByteSize() <= size + GROWTH_BYTES


def is_fusible(node: ir.Node) -> bool:
    producer = node.inputs[0].producer() if node.op_type == "BatchNormalization" else None
    return producer is not None and producer.op_type == "Conv" and len(producer.successors()) == 1


@every_model
def test_default_recipe_keeps_the_outputs(name: str) -> None:
    model = Model(ir.from_proto(randomised(name)))
    after, change = Recipe.parse(RECIPE).apply(model)
    assert change.changed
    assert_smaller(model, after)
    assert after.signature == model.signature
    assert not any(map(is_fusible, after.nodes()))
    first, second = answers(model, feeds(model, 1)), answers(model, feeds(model, 2))
    assert all(np.isfinite(array).all() for array in first)
    assert difference(first, second) > 1e-2, "the output does not depend on the input"
    assert difference(first, answers(after, feeds(model, 1))) < 1e-4


@every_model
def test_constants_by_formula_are_not_blown_up(name: str) -> None:
    model = Model(ir.from_proto(onnx.load(FOLDER / f"light_{name}.onnx")))
    after, _ = Recipe.parse(RECIPE).apply(model)
    assert_smaller(model, after)


def test_there_are_nine() -> None:
    assert len(NAMES) == 9
