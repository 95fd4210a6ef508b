"""The labels of a classifier."""

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
