"""Sentence models at other sizes than the example's: layers, widths and pooling drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxpress
from zoo import texts


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_sentence_models(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    pooling = str(rng.choice(["mean", "cls", "max"]))
    size = int(rng.integers(3, 20))
    model = texts.sentence_model(tmp_path / "base", pooling, seed=seed, dense=size)
    result = onnxpress.convert(model)
    assert result.verified is not None
    assert result.verified.ok, result.verified.first_mismatch
    [output] = result.model.signature.outputs
    assert (output.name, output.shape) == ("sentence_embedding", ("batch", size))
