"""The networks that bench_optimize.py optimises: from configurations, with seeded weights.

    python benchmarks/nets.py NAME EXPORTER FILE

writes one as ONNX; it needs a process of its own, since frameworks do not give memory back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from onnxpress.signature import Feeds, Signature

PYTORCH, KERAS = ("dynamo", "torchscript"), ("tf2onnx",)
IMAGE = "x:float32[batch,3,224,224]"
BERT = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}


@dataclass(frozen=True)
class Net:
    """``make`` gives the model; ``inputs`` tell what it does not say itself.

    ``attention`` counts its attention blocks, ``tokens`` its vocabulary. One that is not
    ``timed`` is there for the time that optimising takes, not for its latency.
    """

    make: Callable[[], object]
    inputs: tuple[str, ...] = ()
    attention: int = 0
    tokens: int = 2
    exporters: tuple[str, ...] = PYTORCH
    timed: bool = True


def vision(name: str) -> Callable[[], nn.Module]:
    """One of torchvision's."""

    def make() -> nn.Module:
        import models
        import torch

        if name != "deeplabv3":
            return models.example_of(name)[0]
        torch.manual_seed(0)
        from torchvision.models import segmentation

        net: nn.Module = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None)
        return net.eval()

    return make


def hugging(name: str, config: str, **sizes: int) -> Callable[[], nn.Module]:
    """The class ``name`` of transformers with its configuration's defaults but for ``sizes``."""

    def make() -> nn.Module:
        # torchvision first: transformers imports it, and it needs what `models` declares.
        import models  # noqa: F401
        import torch
        import transformers
        from transformers.models.whisper import modeling_whisper

        torch.manual_seed(0)
        found = modeling_whisper if name == "WhisperEncoder" else transformers
        net: nn.Module = getattr(found, name)(getattr(transformers, config)(**sizes))
        return net.eval()

    return make


def lstm() -> nn.Module:
    """Two layers of 64 and a classifier of the last step."""
    import torch
    from torch import nn

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(32, 64, 2, batch_first=True)
            self.head = nn.Linear(64, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[0][:, -1])  # type: ignore[no-any-return]

    torch.manual_seed(0)
    return Last().eval()


def keras_cnn() -> Any:
    """Separable convolutions with residuals, as Xception has them, on 96×96 pixels."""
    from onnxpress.sources._tensorflow.framework import keras

    k = keras()
    k.utils.set_random_seed(0)
    n = k.layers
    image = k.Input((96, 96, 3), name="image")
    x = n.Rescaling(1 / 127.5, -1)(image)
    x = n.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x)
    x = n.Activation("relu")(n.BatchNormalization()(x))
    for width in (64, 128, 256):
        aside = n.BatchNormalization()(n.Conv2D(width, 1, strides=2, use_bias=False)(x))
        for _ in range(2):
            x = n.Activation("relu")(x)
            x = n.SeparableConv2D(width, 3, padding="same", use_bias=False)(x)
            x = n.BatchNormalization()(x)
        x = n.Add()([n.MaxPooling2D(3, 2, "same")(x), aside])
    x = n.Dropout(0.3)(n.GlobalAveragePooling2D()(x))
    return k.Model(image, n.Dense(10, activation="softmax")(x))


def keras_transformer() -> Any:
    """Four blocks of width 128 over 64 of 5,000 tokens, norms last, Gelu."""
    from onnxpress.sources._tensorflow.framework import keras

    k = keras()
    k.utils.set_random_seed(0)
    n = k.layers
    ids = k.Input((64,), dtype="int32", name="ids")
    places = n.Embedding(64, 128)(k.ops.arange(64))
    x = n.LayerNormalization(epsilon=1e-6)(n.Embedding(5000, 128)(ids) + places)
    for _ in range(4):
        x = n.LayerNormalization(epsilon=1e-6)(x + n.MultiHeadAttention(4, 32)(x, x))
        x = n.LayerNormalization(epsilon=1e-6)(x + n.Dense(128)(n.Dense(512, activation="gelu")(x)))
    return k.Model(ids, n.Dense(10)(n.GlobalAveragePooling1D()(x)))


NETS: Mapping[str, Net] = {
    "resnet18": Net(vision("resnet18"), (IMAGE,)),
    "mobilenet_v2": Net(vision("mobilenet_v2"), (IMAGE,)),
    "deeplabv3": Net(vision("deeplabv3"), (IMAGE,)),
    "densenet121": Net(vision("densenet121"), (IMAGE,)),
    "bert": Net(hugging("BertModel", "BertConfig", num_hidden_layers=12, **BERT), (), 12, 30522),
    "vit": Net(
        hugging("ViTForImageClassification", "ViTConfig", hidden_size=192,
                num_attention_heads=3, intermediate_size=768), (), 12,
    ),
    "segformer": Net(hugging("SegformerForSemanticSegmentation", "SegformerConfig"), (), 8),
    "gpt2": Net(hugging("GPT2LMHeadModel", "GPT2Config"), (), 12, 50257),
    "whisper": Net(
        hugging("WhisperEncoder", "WhisperConfig", d_model=384, encoder_layers=4,
                encoder_attention_heads=6, encoder_ffn_dim=1536),
        ("input_features:float32[batch,80,3000]",), 4,
    ),
    "lstm": Net(lstm, ("x:float32[batch,10,32]",)),
    "keras_cnn": Net(keras_cnn, exporters=KERAS),
    "keras_transformer": Net(keras_transformer, (), 4, 5000, KERAS),
    "bert_470mb": Net(  # BERT-base with a larger vocabulary
        hugging("BertModel", "BertConfig", vocab_size=41000), (), 12, 41000, timed=False
    ),
}  # fmt: skip


def feeds(net: Net, signature: Signature, batch: int, length: int, seed: int = 0) -> Feeds:
    """Random inputs: ids of the whole vocabulary, masks of padding, images of 224×224 pixels."""
    from onnxpress.verbs.feeds import random_feeds

    shown: dict[str, np.ndarray] = {}
    for spec in signature.inputs:
        if "mask" in spec.name:
            shown[spec.name] = np.array([[1, 1], [1, 0]])
        elif spec.dtype.startswith("int"):
            most = 2 if "type" in spec.name else net.tokens
            shown[spec.name] = np.random.default_rng(seed).integers(0, most, (2, 4 * length))
    sizes = {"sequence": length, "height": 224, "width": 224}
    return random_feeds(signature, batch, seed, shown, sizes)


def export(name: str, exporter: str, path: Path) -> None:
    """Write the network with one exporter and nothing optimised."""
    from onnxpress import api

    net = NETS[name]
    which: Any = {"exporter": exporter} if exporter in PYTORCH else {}
    api.convert(net.make(), inputs=net.inputs, verify=False, **which).model.save(path)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    export(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
