"""The reference of models that compare float64 numbers: asked about the cells of a table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from onnxpress.sources._sklearn.converters import reader_of
from onnxpress.trees.cells import Cells, cells_of, widened


def with_cells(model: Any) -> Any:
    """``model``, with a step before its last estimator where that one has float64 thresholds.

    The step makes thresholds of the float32 numbers that they were rounded up to.
    """
    if hasattr(model, "best_estimator_"):
        return with_cells(model.best_estimator_)
    if hasattr(model, "steps"):
        *before, (name, last) = model.steps
        inner = with_cells(last)
        return model if inner is last else Pipeline([*before, (name, inner)])
    read = reader_of(model)
    forest = read(model) if read is not None else None
    cells = {} if forest is None else cells_of(forest)
    if not cells:
        return model
    step = FunctionTransformer(partial(_table, cells))
    return Pipeline([("cells", step), ("model", model)])


def _table(cells: Cells, table: Any) -> Any:
    """``widened`` of a matrix, or of a DataFrame's columns, of which some may hold strings."""
    if not hasattr(table, "iloc"):
        return widened(cells, np.asarray(table))
    table = table.copy()
    for feature, one in cells.items():
        name = table.columns[feature]
        table[name] = widened({0: one}, table[[name]].to_numpy(np.float64))[:, 0]
    return table
