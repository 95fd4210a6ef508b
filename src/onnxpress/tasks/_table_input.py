"""How rows of a table become a model's inputs: one matrix, or one input for each column."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.stacking import stack
from onnxpress.task import Encoder, Ready

MISSING = (None, "")
"""What stands for no value in tables; for numbers that is NaN."""


class TableInput(Encoder):
    """Encodes rows for one model whose inputs are [batch, columns] each."""

    def __init__(self, signature: Signature, processing: Processing | None) -> None:
        """Raises ``InputError`` for inputs that are no columns."""
        odd = [spec for spec in signature.inputs if spec.shape is None or len(spec.shape) != 2]
        if odd:
            raise InputError(
                f"the model takes {odd[0]}", "inputs [batch, columns]", "choose another --task"
            )
        self._signature = signature
        self._columns = processing.columns if processing else ()

    def prepare(self, records: Sequence[Record]) -> list[Ready]:
        """Mappings from column to value, or rows of numbers in the model's order.

        A model of named inputs takes each from the column of its name, a model of one matrix
        from ``Processing.columns`` where they are known, otherwise from all columns in their
        order. Other columns are left out. Raises ``SamplesError`` naming a missing column.
        """
        return [Ready(record, self._row(record).value) for record in records]

    def stack(self, ready: Sequence[Ready]) -> Feeds:
        return stack(self._signature, [replace(one.record, value=one.value) for one in ready])

    def _row(self, record: Record) -> Record:
        row = record.value
        if isinstance(row, str | bytes | Path):
            raise SamplesError(f"'{record.name or row!r}' is no row", "a .csv, .parquet or .npz")
        if not isinstance(row, Mapping):
            return record
        specs = self._signature.inputs
        if len(specs) == 1 and specs[0].name not in row:
            columns = self._columns or tuple(row)
            if not row.keys() >= set(columns):  # LightGBM has no white space in its names
                row = {**{re.sub(r"\s", "_", str(name)): row[name] for name in row}, **row}
            row = {specs[0].name: [self._cell(row, specs[0], name, record) for name in columns]}
            return replace(record, value=row)
        cells: dict[str, object] = {}
        for spec in specs:
            value = self._cell(row, spec, spec.name, record)
            scalar = not isinstance(value, np.ndarray | list | tuple)
            cells[spec.name] = [value] if scalar else value
        return replace(record, value=cells)

    def _cell(
        self, row: Mapping[str, object], spec: TensorSpec, name: str, record: Record
    ) -> object:
        """As the input's type has it; what does not fit is left for ``stack`` to refuse."""
        what = f"record '{record.name}'" if record.name else "a record"
        if name not in row:
            known = ", ".join(map(str, list(row)[:8]))
            raise SamplesError(f"{what} has no column '{name}' but {known}", f"a column '{name}'")
        value = row[name]
        if spec.dtype == "object":
            return str(value) if isinstance(value, int) else value
        if spec.dtype.startswith("float") and isinstance(value, str | None):
            if value in MISSING:
                return math.nan
            raise SamplesError(f"{what} has {value!r} in column '{name}'", "a number, or nothing")
        return (
            int(value)
            if isinstance(value, float) and value.is_integer() and _whole(spec)
            else value
        )


def _whole(spec: TensorSpec) -> bool:
    return spec.dtype.startswith(("int", "uint"))
