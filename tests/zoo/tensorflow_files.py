"""Small trained models as TensorFlow's files: on the iris data, with seeds."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from onnxpress.sources._tensorflow import framework
from onnxpress.sources._tensorflow.framework import quiet


@functools.cache
def keras() -> Any:
    """Keras on TensorFlow, imported as quietly as the source does it."""
    return framework.keras()


@functools.cache
def iris() -> tuple[np.ndarray, np.ndarray]:
    """(150, 4) float32 features and their 150 classes of 3."""
    from sklearn.datasets import load_iris

    data = load_iris()
    return data.data.astype(np.float32), data.target


@functools.cache
def _classifier() -> Any:
    k = keras()
    k.utils.set_random_seed(0)
    rows, classes = iris()
    layers = k.layers
    model = k.Sequential(
        [
            k.Input((4,), name="flower"),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax", name="species"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    with quiet():
        model.fit(rows, classes, epochs=3, verbose=0)
    return model


def keras_file(folder: Path) -> Path:
    """A trained classifier of iris as a ``.keras`` file."""
    path = folder / "iris.keras"
    with quiet():
        _classifier().save(path)
    return path


def saved_model(folder: Path) -> Path:
    """The same classifier as a SavedModel with the signature ``serving_default``."""
    import tensorflow as tf

    model, path = _classifier(), folder / "iris_saved_model"
    module = tf.Module()
    module.variables_of_it = model.weights

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="flower")])
    def serve(flower: Any) -> dict[str, Any]:
        return {"species": model(flower, training=False)}

    with quiet():
        tf.saved_model.save(module, os.fspath(path), signatures={"serving_default": serve})
    return path
