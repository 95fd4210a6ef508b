"""What examples/tabular does, for pipelines drawn at random."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from conftest import Shell
from onnxpress import api
from onnxpress.predictor import open as open_bundle
from onnxpress.pressing.result import Pressed

ROWS = 160


def drawn(seed: int) -> tuple[object, pd.DataFrame]:
    """A fitted pipeline and its table: depth, width and number of classes from the seed."""
    rng = np.random.default_rng(seed)
    depth, width, classes = (int(rng.integers(*ends)) for ends in ((1, 5), (4, 9), (2, 5)))
    x, y = make_classification(
        ROWS, width, n_informative=4, n_redundant=0, n_classes=classes, n_clusters_per_class=1,
        random_state=seed, class_sep=2,
    )  # fmt: skip
    table = pd.DataFrame(x.astype(np.float32), columns=[f"n {i}" for i in range(width)])
    table["town"] = rng.choice(["Bonn", "Ulm", "Kiel"], ROWS)
    table["answer"] = [f"class {value}" for value in y]
    columns = ColumnTransformer(
        [("n", StandardScaler(), list(table.columns[:width])), ("t", OneHotEncoder(), ["town"])]
    )
    trees = GradientBoostingClassifier(n_estimators=4, max_depth=depth, random_state=0)
    return make_pipeline(columns, trees).fit(table.drop(columns="answer"), table["answer"]), table


@pytest.mark.parametrize("seed", range(3))
def test_a_pipeline_drawn_at_random_keeps_its_labels(seed: int) -> None:
    model, table = drawn(seed)
    converted = api.convert(model)
    assert converted.verified is not None
    assert converted.verified.ok
    assert [spec.name for spec in converted.model.signature.inputs] == list(table.columns[:-1])


def test_a_table_is_pressed_and_predicted(tmp_path: Path, shell: Shell, one_engine: None) -> None:
    model, table = drawn(3)
    skops.io.dump(model, tmp_path / "pipe.skops")
    table.to_csv(tmp_path / "table.csv", index=False)
    pressed = api.press(
        str(tmp_path / "pipe.skops"),
        samples=str(tmp_path / "table.csv"),
        label="answer",
        floor=0.9,
        rounds=6,
        keep_float=True,
        output=tmp_path / "bundle",
    )
    assert isinstance(pressed, Pressed)
    assert pressed.task == "tabular"
    assert not any("each time it is opened" in warning for warning in pressed.warnings)
    quality = pressed.candidates[0].row.quality  # type: ignore[union-attr]
    assert quality is not None
    assert quality.value == 1
    assert quality.metric.startswith("accuracy")
    wanted = list(model.predict(table.drop(columns="answer")))  # type: ignore[attr-defined]
    with open_bundle(tmp_path / "bundle") as predictor:
        assert [row["class"] for row in predictor.predict(table)] == wanted
    output = tmp_path / "out.jsonl"
    code, _, _ = shell("run", tmp_path / "bundle", tmp_path / "table.csv", "-o", output)
    assert code == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["output"]["class"] for line in lines] == wanted
