"""Samples from texts and tables: one record a line or a row, read as they are needed."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from onnxpress.errors import MissingExtra, SamplesError
from onnxpress.samples import Label, Raw, Record, Samples, stamp

ENCODING = "utf-8-sig"
"""UTF-8, also with the mark in front that spreadsheets write."""


def lines(path: Path) -> Samples:
    """``.txt``: a text a line; blank lines are left out."""

    def stream() -> Iterator[Record]:
        with _readable(path, "UTF-8 text"), path.open(encoding=ENCODING) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Record(line.rstrip("\r\n"), None, f"line {number}")

    return Samples(stream, "texts", path.name, identity=stamp(path))


def jsonl(path: Path, label: str | None) -> Samples:
    """``.jsonl``: a text or an object a line; objects with ``text`` are texts, others rows."""
    first = next((value for _, value in _objects(path)), "")
    kind = "texts" if isinstance(first, str) or "text" in first else "rows"
    if label is not None:
        _require(path, label, first if isinstance(first, Mapping) else ())
    column = label or "label"

    def stream() -> Iterator[Record]:
        for number, value in _objects(path):
            if isinstance(value, str) and kind == "texts":
                yield Record(value, None, f"line {number}")
                continue
            if isinstance(value, str) or (kind == "texts" and "text" not in value):
                found = "a text" if isinstance(value, str) else "an object without 'text'"
                raise SamplesError(f"{path}, line {number} is {found}", "the first line's form")
            answer = cast("Label | None", value.get(column))
            row = {key: item for key, item in value.items() if key != column}
            raw: Raw = str(value["text"]) if kind == "texts" else row
            yield Record(raw, answer, f"line {number}")

    return Samples(stream, kind, path.name, identity=stamp(path) + column)


def _objects(path: Path) -> Iterator[tuple[int, str | Mapping[str, object]]]:
    with _readable(path, "UTF-8 text"), path.open(encoding=ENCODING) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, str | dict):
                found = f"{path}, line {number} is no JSON text or object"
                raise SamplesError(found, "one on each line")
            yield number, value


def table(path: Path, label: str | None) -> Samples:
    """``.csv``: a row a record, its columns named in the first line; numbers become numbers."""
    columns = next((row for _, row in _rows(path)), [])
    if label is not None:
        _require(path, label, columns)

    def stream() -> Iterator[Record]:
        for number, row in itertools.islice(_rows(path), 1, None):
            if len(row) != len(columns):
                raise SamplesError(
                    f"{path}, line {number} has {len(row)} fields", f"{len(columns)}, one a column"
                )
            values = {name: _typed(text) for name, text in zip(columns, row, strict=True)}
            answer = values.pop(label) if label is not None else None
            yield Record(values, answer, f"line {number}")

    return Samples(stream, "rows", path.name, identity=stamp(path) + (label or ""))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    with _readable(path, "a .csv in UTF-8"), path.open(newline="", encoding=ENCODING) as file:
        reader = csv.reader(file)
        for row in reader:
            if row:
                yield reader.line_num, row


def _typed(text: str) -> Label:
    """A number where the text is one as tables write them: 1_000 is a name."""
    for kind in (int, float) if "_" not in text else ():
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parquet(path: Path, label: str | None) -> Samples:
    """``.parquet``: a row a record, a thousand of them in memory."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra.of("pyarrow", "tables", "reads .parquet samples") from None
    expected = "a whole .parquet file"
    with _readable(path, expected), parquet.ParquetFile(path) as file:
        columns = file.schema_arrow.names
    if label is not None:
        _require(path, label, columns)

    def stream() -> Iterator[Record]:
        number = 0
        with _readable(path, expected), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    answer = row.pop(label) if label is not None else None
                    yield Record(row, answer, f"row {number}")
                    number += 1

    return Samples(stream, "rows", path.name, identity=stamp(path) + (label or ""))


@contextmanager
def _readable(path: Path, expected: str) -> Iterator[None]:
    """What a file of another format raises, as one line; Arrow's errors are ``ValueError``."""
    try:
        yield
    except (ValueError, OSError, csv.Error) as error:
        told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SamplesError(f"{path} cannot be read ({told})", expected) from error


def _require(path: Path, label: str, columns: Iterable[str]) -> None:
    columns = list(columns)
    if label not in columns:
        known = ", ".join(columns[:12]) or "its columns"
        raise SamplesError(f"{path} has no column '{label}'", f"--label with one of {known}")
