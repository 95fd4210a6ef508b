"""float16 and bfloat16: models of the zoo and random ones keep their answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import zoo
from onnxpress.model import load
from onnxpress.passes.to_bfloat16 import ToBfloat16
from onnxpress.passes.to_float16 import RANGES, ToFloat16
from onnxpress.passes.upgrade_opset import UpgradeOpset
from onnxpress.recipe import Pass
from onnxpress.verbs.calibrate import gather
from zoo.graphs import answers
from zoo.halves import engines, narrowed
from zoo.random_graphs import SIZES, RandomGraph
from zoo.random_steps import STEPS


@pytest.mark.parametrize("step", [ToFloat16(), ToBfloat16()], ids=str)
@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo(name: str, step: Pass, zoo_model: Callable[[str], Path]) -> None:
    source = load(zoo_model(name))
    feeds = zoo.feeds(source.signature, 3)
    if isinstance(step, ToBfloat16):
        source, _ = UpgradeOpset(to=22).apply(source)
    after, change = narrowed(source, feeds, step=step)
    assert change.changed
    assert after.weight_bytes < 0.75 * source.weight_bytes
    least = 0.9999 if isinstance(step, ToFloat16) else 0.999
    for got in engines(after, feeds):
        for a, b in zip(answers(source, feeds), got, strict=True):
            cosine = np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
            assert cosine > least


# Shrinking what fails takes minutes.
@settings(max_examples=40, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(st.randoms(use_true_random=False), st.integers(2, 20), st.sampled_from([13, 17, 18, 21]))
def test_any_graph(chance: random.Random, nodes: int, opset: int) -> None:
    graph = RandomGraph(chance, STEPS, nodes, opset, TensorProto.FLOAT)
    source, feeds = graph.model(), [graph.feeds(sizes) for sizes in SIZES]
    step = ToFloat16()
    runs, nudged = [], []
    for one in feeds:
        off = {name: (a * 1.0005).astype(a.dtype) for name, a in one.items()}
        try:
            runs.append(answers(source, one))
            nudged.append(answers(source, off))
            facts = gather(step, source, lambda: feeds)
        except Exception:  # noqa: BLE001  # ONNX Runtime has not every operator
            return
    after, change = step.apply(source, facts)
    if not change.changed:
        return
    # What cancels leaves the rounding of what it was made of.
    seen = facts.ranges[RANGES].values()
    largest = max(max(-span.low, span.high) for span in seen)
    assert after.signature == source.signature
    onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
    for one, expected, moved in zip(feeds, runs, nudged, strict=True):
        for a, b, c in zip(expected, answers(after, one), moved, strict=True):
            known = np.isfinite(a) & np.isfinite(c)
            if a.dtype == np.float32 and known.any():
                bound = 2e-2 * np.abs(a[known]).max() + 30 * np.abs(a[known] - c[known]).max()
                assert np.abs(a[known] - b[known]).max() <= bound + 2e-2 * largest
