"""The labels of a classifier, and the categories that histogram gradient boosting encodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpress.errors import SourceError


def classes_of(model: Any) -> tuple[int, ...] | tuple[str, ...] | None:
    """Integers where the labels are (booleans and whole floats too), otherwise strings."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        return None
    classes = np.asarray(classes)
    if classes.dtype.kind in "iub" or (
        classes.dtype.kind == "f" and (classes == np.floor(classes)).all()
    ):
        return tuple(int(value) for value in classes)
    if not all(isinstance(value, str) for value in classes):
        raise SourceError(
            f"{type(model).__name__} has the classes {classes.tolist()[:3]}",
            "integers or strings",
        )
    return tuple(str(value) for value in classes)


def categories_of(model: Any) -> dict[int, np.ndarray]:
    """Column → the categories that a histogram model knows there, in the order of their codes."""
    if getattr(model, "is_categorical_", None) is None:
        return {}
    encoder = model._preprocessor.named_transformers_["encoder"]
    if not hasattr(encoder, "categories_"):
        return {}
    columns = np.flatnonzero(model.is_categorical_)
    return {
        int(column): _known(values)
        for column, values in zip(columns, encoder.categories_, strict=True)
    }


def _known(values: np.ndarray) -> np.ndarray:
    """Without the missing value, which the encoder puts last."""
    return np.array([v for v in values if v is not None and v == v], values.dtype)  # noqa: PLR0124
