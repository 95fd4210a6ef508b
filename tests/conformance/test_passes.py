"""What every pass promises; a new pass is adopted by being there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import zoo
from onnxpress import registry
from onnxpress.machine import this_machine
from onnxpress.model import Model, load
from onnxpress.recipe import Change, Facts, Pass, Recipe
from onnxpress.values import all_values
from onnxpress.verbs.calibrate import gather as gather_facts
from zoo.disguise import disguise
from zoo.graphs import Array, difference, openvino_answers, serialized
from zoo.graphs import answers as onnxruntime_answers

ZooModel = Callable[[str], Path]
GROWTH_BYTES = (1 << 20) + (1 << 14)
"""What folding may add: its own bound, and names and shapes of the new constants."""
NAMES_BYTES = 1 << 10
"""What the names of new nodes and the constants of shapes may add."""
LOSSY_COSINE = 0.95
CALIBRATION_BATCHES = 8

every_pass = pytest.mark.parametrize("name", registry.names("passes"))
every_model = pytest.mark.parametrize("model_name", zoo.names())


def create(name: str) -> Pass:
    return registry.create(Pass, "passes", name)


def answers(model: Model, feeds: Mapping[str, Array]) -> list[Array]:
    """ONNX Runtime's CPU provider has next to no kernel for bfloat16; OpenVINO has them all."""
    types = {value.dtype for value in all_values(model.ir.graphs())}
    bfloat16 = ir.DataType.BFLOAT16 in types
    return (openvino_answers if bfloat16 else onnxruntime_answers)(model, feeds)


def gather(step: Pass, model: Model) -> Facts:
    """The facts that ``step`` needs, from a few batches."""
    seeds = range(CALIBRATION_BATCHES)
    return gather_facts(step, model, lambda: (zoo.feeds(model.signature, 3, i) for i in seeds))


def apply(step: Pass, model: Model) -> tuple[Model, Change]:
    return step.apply(model, gather(step, model))


@every_pass
def test_is_created_without_arguments_and_survives_its_text(name: str) -> None:
    step = create(name)
    assert Recipe.parse(str(step)) == Recipe((step,))


@every_pass
@every_model
def test_keeps_signature_and_validity(name: str, model_name: str, zoo_model: ZooModel) -> None:
    step, model = create(name), load(zoo_model(model_name))
    after, _ = apply(step, model)
    onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
    if step.keeps_signature:
        assert after.signature == model.signature


@every_pass
@every_model
def test_leaves_its_input_alone_and_says_changed_only_if_it_did(
    name: str, model_name: str, zoo_model: ZooModel
) -> None:
    step, model = create(name), load(zoo_model(model_name))
    before = serialized(model)
    after, change = apply(step, model)
    assert serialized(model) == before
    assert change.changed == (serialized(after) != before)
    assert (after is model) == (not change.changed)


@every_pass
@every_model
def test_is_idempotent(name: str, model_name: str, zoo_model: ZooModel) -> None:
    step = create(name)
    once, _ = apply(step, load(zoo_model(model_name)))
    # The facts of the first model miss the tensors that the pass made; gather them anew.
    twice, change = apply(step, once)
    assert not change.changed
    assert serialized(twice) == serialized(once)


@every_pass
@every_model
@pytest.mark.parametrize("batch", [1, 3])
def test_keeps_outputs(name: str, model_name: str, batch: int, zoo_model: ZooModel) -> None:
    step, model = create(name), load(zoo_model(model_name))
    if hasattr(step, "weight_bits"):  # of which this CPU's products do not saturate
        step = dataclasses.replace(step, weight_bits=this_machine().weight_bits)
    after, _ = apply(step, model)
    feeds = zoo.feeds(model.signature, batch, seed=7)
    expected, got = answers(model, feeds), answers(after, feeds)
    if step.rtol is not None:
        assert difference(expected, got) <= step.rtol
        return
    for a, b in zip(expected, got, strict=True):
        assert a.shape == b.shape
        assert np.isfinite(b).all()
        cosine = np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
        assert cosine > LOSSY_COSINE


@every_pass
@every_model
def test_an_exact_pass_adds_no_nodes_and_hardly_bytes(
    name: str, model_name: str, zoo_model: ZooModel
) -> None:
    step, model = create(name), load(zoo_model(model_name))
    if step.rtol is None or step.may_add_kernels:
        pytest.skip("it adds nodes on purpose")
    after, _ = apply(step, model)
    assert len(list(after.nodes())) <= len(list(model.nodes()))
    allowed = GROWTH_BYTES if name == "fold_constants" else NAMES_BYTES
    assert len(serialized(after)) <= len(serialized(model)) + allowed


@every_pass
@every_model
@pytest.mark.parametrize("seed", [1, 2])
def test_looks_at_no_name_and_no_order(
    name: str, model_name: str, seed: int, zoo_model: ZooModel
) -> None:
    step, model = create(name), load(zoo_model(model_name))
    other = Model(ir.from_proto(disguise(ir.to_proto(model.ir), seed)))
    _, change = apply(step, model)
    disguised, same = apply(step, other)
    assert same.rewrites == change.rewrites
    assert len(same.reasons) == len(change.reasons)
    assert disguised.op_counts() == apply(step, model)[0].op_counts()
