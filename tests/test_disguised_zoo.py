"""Real exports of random sizes, their names, orders and operands random too: no pass may look."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import onnx_ir as ir
import pytest
import torch
from torch import nn

from onnxpress import api
from onnxpress.model import Model
from onnxpress.recipe import Recipe
from onnxpress.source import ExportOptions, OpenOptions
from onnxpress.sources._torch.origin import TorchOrigin
from onnxpress.verbs.convert import convert
from onnxpress.verbs.feeds import random_feeds
from onnxpress.verbs.optimize import RECIPES, optimize
from zoo.disguise import disguise
from zoo.graphs import answers, difference
from zoo.texts import transformers

ATTENTION = ("com.microsoft::Attention", "com.microsoft::MultiHeadAttention")
RTOL = 1e-4
Made = tuple[nn.Module, dict[str, torch.Tensor] | None, int]
"""A network, its example inputs (None where its configuration tells them), attention blocks."""


def shared(chance: random.Random) -> dict[str, int]:
    """Sizes that most configurations name alike."""
    heads, layers = chance.choice([2, 3, 4, 5]), chance.choice([1, 2, 3])
    width = heads * chance.choice([4, 8, 12])
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": width * chance.choice([2, 4]),
    }


def bert(chance: random.Random) -> Made:
    sizes = shared(chance)
    config = transformers().BertConfig(**sizes, vocab_size=100, max_position_embeddings=64)
    return transformers().BertModel(config), None, sizes["num_hidden_layers"]


def vit(chance: random.Random) -> Made:
    sizes = shared(chance)
    config = transformers().ViTConfig(**sizes, image_size=32, patch_size=chance.choice([8, 16]))
    return transformers().ViTForImageClassification(config), None, sizes["num_hidden_layers"]


def gpt2(chance: random.Random) -> Made:
    sizes = shared(chance)
    config = transformers().GPT2Config(
        n_embd=sizes["hidden_size"], n_layer=sizes["num_hidden_layers"],
        n_head=sizes["num_attention_heads"], n_positions=64, vocab_size=100,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return transformers().GPT2LMHeadModel(config), None, sizes["num_hidden_layers"]


def segformer(chance: random.Random) -> Made:
    depths, heads = [chance.choice([1, 2]) for _ in range(2)], [1, chance.choice([2, 3])]
    config = transformers().SegformerConfig(
        num_encoder_blocks=2, depths=depths, num_attention_heads=heads,
        hidden_sizes=[8, heads[1] * 8], sr_ratios=[chance.choice([2, 4]), 1],
        patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2], decoder_hidden_size=16,
        num_labels=3, image_size=64,
    )  # fmt: skip
    return transformers().SegformerForSemanticSegmentation(config), None, sum(depths)


def whisper(chance: random.Random) -> Made:
    sizes = shared(chance)
    config = transformers().WhisperConfig(
        d_model=sizes["hidden_size"], encoder_layers=sizes["num_hidden_layers"],
        encoder_attention_heads=sizes["num_attention_heads"],
        encoder_ffn_dim=sizes["intermediate_size"], num_mel_bins=16, max_source_positions=24,
    )  # fmt: skip
    encoder = transformers().models.whisper.modeling_whisper.WhisperEncoder(config)
    return encoder, {"input_features": torch.randn(2, 16, 48)}, sizes["num_hidden_layers"]


class Lstm(nn.Module):
    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.cells = nn.LSTM(inputs, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(x)[0][:, -1])


def lstm(chance: random.Random) -> Made:
    inputs = chance.choice([3, 8])
    network = Lstm(inputs, chance.choice([4, 7]), chance.choice([1, 2]))
    return network, {"x": torch.randn(2, 10, inputs)}, 0


def resnet(chance: random.Random) -> Made:
    config = transformers().ResNetConfig(
        embedding_size=8, hidden_sizes=[8, chance.choice([12, 16])],
        depths=[chance.choice([1, 2]), 2], layer_type=chance.choice(["basic", "bottleneck"]),
    )  # fmt: skip
    return transformers().ResNetModel(config), {"pixel_values": torch.randn(2, 3, 32, 32)}, 0


def mobilenet(chance: random.Random) -> Made:
    config = transformers().MobileNetV2Config(
        image_size=32, depth_multiplier=chance.choice([0.25, 0.35]), min_depth=4
    )
    network = transformers().MobileNetV2Model(config)
    return network, {"pixel_values": torch.randn(2, 3, 32, 32)}, 0


NETWORKS: dict[str, Callable[[random.Random], Made]] = {
    "bert": bert,
    "gpt2": gpt2,
    "lstm": lstm,
    "mobilenet": mobilenet,
    "resnet": resnet,
    "segformer": segformer,
    "vit": vit,
    "whisper": whisper,
}


def exported(name: str, exporter: str, seed: int) -> tuple[Model, int]:
    torch.manual_seed(seed)
    network, example, blocks = NETWORKS[name](random.Random(seed))
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if example is None:
            return api.convert(network, exporter=exporter, verify=False).model, blocks
        with TorchOrigin(network, example, OpenOptions(), "") as origin:
            found = convert(origin, ExportOptions(exporter=exporter), verify=False)
    return found.model, blocks


def unlike(name: str, exporter: str, seed: int) -> None:
    """The same operators as of the plain model, all attention, and the same answers."""
    plain, blocks = exported(name, exporter, seed)
    dressed = Model(ir.from_proto(disguise(ir.to_proto(plain.ir), seed)))
    feeds = random_feeds(plain.signature, 2, seed)
    for mask in (array for key, array in feeds.items() if "mask" in key):
        mask[1, -3:] = 0
    renamed = [spec.name for spec in dressed.signature.inputs]
    assert not {value.name for value in plain.ir.graph.inputs} & set(renamed)
    other = dict(zip(renamed, feeds.values(), strict=True))
    expected = answers(plain, feeds)
    for target, text in RECIPES.items():
        recipe = Recipe.parse(text)
        ours, theirs = optimize(plain, None, recipe), optimize(dressed, None, recipe)
        assert theirs.after.ops == ours.after.ops
        assert difference(expected, answers(theirs.model, other)) < RTOL
        if target == "onnxruntime":
            assert sum(theirs.after.ops.get(op, 0) for op in ATTENTION) == blocks


@pytest.mark.parametrize(
    ("name", "exporter"),
    [("bert", "dynamo"), pytest.param("gpt2", "torchscript", marks=pytest.mark.slow)],
)
def test_some_in_disguise(name: str, exporter: str) -> None:
    unlike(name, exporter, seed=5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_in_disguise(name: str, exporter: str, seed: int) -> None:
    unlike(name, exporter, seed)
