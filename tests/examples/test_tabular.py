"""The example's pipeline at other sizes than its own: columns, words, classes, trees drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxpress
from onnxpress.engines.onnxruntime import OnnxRuntime
from onnxpress.settings import Settings
from zoo import examples


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pipelines(seed: int, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    rows, classes = 300, int(rng.integers(2, 6))
    numbers = [f"number {i}" for i in range(int(rng.integers(1, 12)))]
    texts = [f"text {i}" for i in range(int(rng.integers(1, 4)))]
    words = [f"word{i}" for i in range(int(rng.integers(2, 9)))]
    table = pd.DataFrame(
        {name: rng.normal(size=rows).astype(np.float32) for name in numbers}
        | {name: rng.choice(words, rows) for name in texts}
    )
    score = table[numbers[0]] * 2 + table[texts[0]].str[-1].astype(int) + rng.normal(size=rows)
    answer = pd.qcut(score, classes, labels=[f"class {i}" for i in range(classes)]).astype(str)
    trees, depth = int(rng.integers(2, 30)), int(rng.integers(1, 6))
    model = examples.load("tabular", "train").pipeline(numbers, texts, trees, depth)
    model.fit(table[:200], answer[:200])

    result = onnxpress.convert(model)
    assert result.verified is not None
    assert result.verified.ok, result.verified.first_mismatch
    feeds = {name: table[name].to_numpy()[200:, np.newaxis] for name in table}
    with OnnxRuntime().open(
        result.model.save(tmp_path / "m.onnx"), Settings("onnxruntime")
    ) as session:
        labels = session.run(feeds)["label"]
    assert labels.tolist() == model.predict(table[200:]).tolist()
    assert len(set(labels.tolist())) > 1
