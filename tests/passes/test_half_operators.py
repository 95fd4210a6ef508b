"""Every operator of ONNX's own test suite in half precision: valid, and near what it was."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpress.calibrator import Range
from onnxpress.passes import _half_choice
from onnxpress.passes._half import narrow
from onnxpress.passes._half_slots import BFLOAT16, FLOAT16, Half
from test_node_models import models, valid
from zoo.graphs import answers

UNSEEN = 1e38
"""Some show their masked scores: a range would have kept these in float32."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("half", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("mode", ["as they are", "constant"])
def test_every_operator(
    mode: Literal["as they are", "constant"], half: Half, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Alone, an operator is an island that does not pay.
    monkeypatch.setattr(_half_choice.Choice, "_islands", lambda self: False)
    monkeypatch.setattr(_half_choice.Choice, "_followers", lambda self: False)
    faults, converted = {}, 0
    for name, model, feeds in models(mode):
        if not valid(model):
            continue
        after = model.clone()
        if not narrow(after.ir, half, {"x": Range(-1, 1)}, (), keep_io=True).changed:
            continue
        converted += 1
        try:
            onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            faults[name] = str(error)
            continue
        if after.signature != model.signature:
            faults[name] = "another signature"
        try:
            expected = answers(model, feeds) if half is FLOAT16 else []
        except Exception:  # noqa: BLE001  # ONNX Runtime lacks some operators
            continue
        got = answers(after, feeds) if half is FLOAT16 else []
        if not all(map(near, expected, got)):
            faults[name] = "another answer"
    assert converted > 1000
    assert not faults


def near(a: object, b: object) -> bool:
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.dtype.kind not in "fib":
        return True
    if a.dtype.kind != "f" or not a.size:
        return bool((a == b).all())
    known = np.isfinite(a) & (np.abs(a) < UNSEEN)
    most = float(np.abs(a[known]).max(initial=1e-3))
    return np.allclose(a[known], b[known], rtol=1e-2, atol=1e-2 * most)
