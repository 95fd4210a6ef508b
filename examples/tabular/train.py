"""Trains a pipeline on the breast cancer table of scikit-learn, and writes model and tables."""

import sys
from pathlib import Path

import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

GROUPS = ["small", "medium", "large"]


def pipeline(numbers: list[str], texts: list[str], trees: int = 100, depth: int = 3) -> Pipeline:
    """Scaled ``numbers`` and one-hot ``texts`` into gradient boosting."""
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), numbers), ("texts", OneHotEncoder(), texts)]
    )
    boosting = GradientBoostingClassifier(n_estimators=trees, max_depth=depth, random_state=0)
    return make_pipeline(columns, boosting)


def main(folder: Path) -> None:
    """The columns are numbers and one text, as tables are; the answer is a word."""
    data = load_breast_cancer(as_frame=True)
    table = data.data.round(4)
    numbers = list(table.columns)
    table["size group"] = pd.qcut(table["mean area"], 3, labels=GROUPS).astype(str)
    table["diagnosis"] = data.target_names[data.target]
    train, test = train_test_split(
        table, test_size=0.5, random_state=0, stratify=table["diagnosis"]
    )
    model = pipeline(numbers, ["size group"])
    model.fit(train.drop(columns="diagnosis"), train["diagnosis"])
    accuracy = model.score(test.drop(columns="diagnosis"), test["diagnosis"])
    folder.mkdir(exist_ok=True)
    skops.io.dump(model, folder / "pipe.skops")
    test.to_csv(folder / "test.csv", index=False)
    test.drop(columns="diagnosis").head(3).to_csv(folder / "new.csv", index=False)
    print(f"{accuracy:.1%} of {len(test)} held-out patients right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
