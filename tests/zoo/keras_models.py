"""Keras models of many shapes, sizes and layers, and what they are trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.tensorflow_files import keras


def digits(size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, size, size, 1) of the digits below ``classes``, and which they are."""
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen = data.target < classes
    images = np.kron(data.images[chosen], np.ones((2, 2)))[:, :size, :size, None]
    return images.astype(np.float32), data.target[chosen]


def drawn_cnn(rng: np.random.Generator, size: int, classes: int) -> Any:
    """A classifier of a random depth and width, with random kinds of blocks."""
    k, layers = keras(), keras().layers
    width = int(rng.integers(4, 12))
    model = [k.Input((size, size, 1), name="digit"), layers.Rescaling(1 / 16)]
    for depth in range(int(rng.integers(1, 4))):
        kind = (layers.Conv2D, layers.SeparableConv2D)[int(rng.integers(2))]
        model += [
            kind(width * (depth + 1), 3, strides=1 + depth % 2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation(("relu", "gelu", "silu")[int(rng.integers(3))]),
            layers.Dropout(0.3),
        ]
    head = layers.Dense(classes, activation="softmax", name="which")
    return k.Sequential([*model, layers.GlobalAveragePooling2D(), head])


def text(last: Callable[[Any, Any], Any], *, masked: bool = False) -> Any:
    """A model of token ids, of any number of them; id 0 is padding where it is ``masked``."""
    k = keras()
    ids = k.Input((None,), dtype="int32", name="ids")
    embedded = k.layers.Embedding(40, 8, mask_zero=masked)(ids)
    return k.Model(ids, last(k.layers, embedded))


def images(last: Callable[[Any, Any], Any]) -> Any:
    k = keras()
    image = k.Input((None, None, 3), name="image")
    return k.Model(image, last(k.layers, image))


def series(last: Callable[[Any, Any], Any]) -> Any:
    k = keras()
    row = k.Input((None, 6), name="series")
    return k.Model(row, last(k.layers, row))


def attended(layers: Any, x: Any, **options: bool) -> Any:
    return layers.MultiHeadAttention(2, 4)(x, x, **options)


FREE = {
    "lstm": lambda: series(lambda n, x: n.LSTM(5)(x)),
    "gru": lambda: series(lambda n, x: n.GRU(4, return_sequences=True)(x)),
    "bidirectional": lambda: series(lambda n, x: n.Bidirectional(n.LSTM(3))(x)),
    "conv1d": lambda: series(lambda n, x: n.Conv1D(4, 3, padding="causal", dilation_rate=2)(x)),
    "masked": lambda: text(lambda n, x: n.LSTM(4)(x), masked=True),
    "attention": lambda: text(lambda n, x: n.LayerNormalization()(attended(n, x))),
    "causal": lambda: text(lambda n, x: attended(n, x, use_causal_mask=True)),
    "conv": lambda: images(lambda n, x: n.Conv2D(4, 3, strides=2, padding="same")(x)),
    "depthwise": lambda: images(lambda n, x: n.DepthwiseConv2D(3)(x)),
    "separable": lambda: images(lambda n, x: n.SeparableConv2D(5, 3)(x)),
    "transposed": lambda: images(lambda n, x: n.Conv2DTranspose(4, 3, 2, padding="same")(x)),
    "pooling": lambda: images(lambda n, x: n.AveragePooling2D(3, 2, "same")(n.MaxPooling2D()(x))),
    "resizing": lambda: images(lambda n, x: n.Resizing(13, 9)(x)),
    "upsampling": lambda: images(lambda n, x: n.UpSampling2D(2)(x)),
    "groups": lambda: images(lambda n, x: n.GroupNormalization(3)(x)),
}  # fmt: skip


def subclassed() -> Any:
    k = keras()

    class Net(k.Model):  # type: ignore[misc, name-defined]  # Keras ships no types
        """A ``call`` of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.mix = k.layers.Dense(4)
            self.drop = k.layers.Dropout(0.5)

        def call(self, inputs: Any, training: bool = False) -> Any:
            x = self.drop(self.mix(inputs["x"]), training=training)
            return {"y": x, "both": (x + 1, inputs["z"] * 2)}

    return Net()
