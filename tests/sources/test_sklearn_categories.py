"""Encoders are fed what they know, in tables and in matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from onnxpress import api
from onnxpress.errors import SourceError
from onnxpress.verbs.convert import Converted
from zoo.graphs import answers

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "city": RNG.choice(["Bern", "Genf", "Ulm"], 200).astype(object),
        "level": RNG.choice(["low", "high"], 200).astype(object),
        "code": RNG.choice([1, 2, 3, 7], 200),
        "flag": RNG.choice([True, False], 200),
        "price": RNG.choice([0.5, 1.5, 2.5], 200),
        "number": RNG.normal(size=200),
    }
)
FRAME["gaps"] = FRAME.code.astype(float).where(RNG.random(200) > 0.2)
TARGET = ((FRAME.code > 2) ^ (FRAME.city == "Ulm")).to_numpy().astype(int)
IGNORING = OneHotEncoder(handle_unknown="ignore")
CODED = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def proven(model: object, table: object) -> Converted:
    pipeline = make_pipeline(model, LogisticRegression()).fit(table, TARGET)
    converted = api.convert(pipeline)
    assert converted.verified is not None
    assert converted.verified.ok, str(converted.verified.first_mismatch)
    specs = converted.model.signature.inputs
    columns = table if isinstance(table, pd.DataFrame) else pd.DataFrame(np.asarray(table))
    values = columns[[s.name for s in specs]] if specs[0].name != "X" else columns
    feeds = {s.name: values[[s.name]].to_numpy().astype(s.dtype) for s in specs if s.name != "X"}
    feeds = feeds or {"X": values.to_numpy().astype(specs[0].dtype)}
    _, probabilities = answers(converted.model, feeds)
    assert np.abs(probabilities - pipeline.predict_proba(table)).max() < 1e-5
    return converted


@pytest.mark.parametrize(
    ("encoder", "column", "dtype"),
    [
        (OneHotEncoder(), "flag", "int64"),
        (IGNORING, "flag", "int64"),
        (OrdinalEncoder(), "price", "float32"),
        (OrdinalEncoder(encoded_missing_value=-2), "gaps", "float32"),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), IGNORING), "gaps", "float32"),
    ],
    ids=str,
)
def test_columns(encoder: object, column: str, dtype: str) -> None:
    columns = ColumnTransformer([("a", encoder, [column]), ("b", StandardScaler(), ["number"])])
    result = proven(columns, FRAME)
    assert {s.name: s.dtype for s in result.model.signature.inputs} == {
        column: dtype,
        "number": "float32",
    }


@pytest.mark.parametrize(
    ("encoder", "columns", "dtype"),
    [
        (OrdinalEncoder(), ["code", "flag"], "int64"),
        (CODED, ["code", "price"], "float32"),
        (IGNORING, ["flag"], "int64"),
        (OneHotEncoder(), ["city", "level"], "object"),
        (IGNORING, ["city", "level"], "object"),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent"), IGNORING),
            ["gaps", "code"],
            "float32",
        ),
    ],
    ids=str,
)
def test_matrices(encoder: object, columns: list[str], dtype: str) -> None:
    kind = object if dtype == "object" else float if dtype == "float32" else None
    matrix = FRAME[columns].to_numpy(kind) if kind else FRAME[columns].to_numpy(int)
    result = proven(encoder, matrix)
    assert [s.dtype for s in result.model.signature.inputs] == [dtype]


def test_missing_numbers_stay_missing() -> None:
    columns = ColumnTransformer([("a", OrdinalEncoder(), ["gaps"]), ("b", "passthrough", ["code"])])
    model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=3))
    converted = api.convert(model.fit(FRAME, TARGET))
    assert converted.verified is not None
    assert converted.verified.ok, str(converted.verified.first_mismatch)


def test_a_column_transformer_of_a_matrix() -> None:
    columns = ColumnTransformer([("a", OneHotEncoder(), [0]), ("b", StandardScaler(), [1])])
    proven(columns, FRAME[["code", "number"]].to_numpy(float))


def test_words_that_an_imputer_would_fill() -> None:
    """ONNX has no missing strings, so that the imputer changes none."""
    filled = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    frame = FRAME.assign(city=FRAME.city.where(FRAME.number < 1))
    model = make_pipeline(ColumnTransformer([("a", filled, ["city", "level"])]))
    model = make_pipeline(model, LogisticRegression()).fit(frame, TARGET)
    converted = api.convert(model)
    assert converted.verified is not None
    assert converted.verified.ok, str(converted.verified.first_mismatch)
    feeds = {name: FRAME[[name]].to_numpy(object) for name in ("city", "level")}
    _, probabilities = answers(converted.model, feeds)
    assert np.abs(probabilities - model.predict_proba(FRAME)).max() < 1e-5
    assert isinstance(model[0][0].transformers_[0][1][0].missing_values, float)  # left as it was


def test_words_and_numbers_in_one_matrix_are_one_line() -> None:
    model = make_pipeline(OneHotEncoder(), LogisticRegression())
    with pytest.raises(SourceError, match=r"words and numbers.*ColumnTransformer"):
        api.convert(model.fit(FRAME[["city", "code"]], TARGET))
