"""Models of the transformers library become proven ONNX with free lengths, or one clear line."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from onnxpress import api
from onnxpress.engine import Session
from onnxpress.errors import InputError, MissingExtra, OnnxpressError, SourceError
from onnxpress.samples import Record
from onnxpress.signature import Feeds
from onnxpress.source import ExportOptions, OpenOptions, open_source
from onnxpress.tasks.text_classification import TextClassification
from onnxpress.verbs.convert import Converted, convert
from onnxpress.verbs.feeds import random_feeds
from zoo.texts import SPECIAL, WORDS, bert_config, saved, sentences, tokenizer, transformers

SIZES = {"vocab_size": 61, "max_position_embeddings": 40}
BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 40, **SIZES}  # fmt: skip
VIT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}


def model(name: str, config: str, **how: Any) -> Any:
    library = transformers()
    torch.manual_seed(len(name))
    return getattr(library, name)(getattr(library, config)(**how))


TEXTS: dict[str, Callable[[], Any]] = {
    "encoder": lambda: model("BertModel", "BertConfig", **BERT),
    "tokens": lambda: model("XLMRobertaForTokenClassification", "XLMRobertaConfig", **BERT,
                            type_vocab_size=1, pad_token_id=1, num_labels=5),
    "sequence": lambda: model("DistilBertForSequenceClassification", "DistilBertConfig", dim=32,
                              n_layers=2, n_heads=4, hidden_dim=40, num_labels=3, **SIZES),
    "causal": lambda: model("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=2,
                            vocab_size=61, n_positions=40),
    "t5": lambda: model("T5EncoderModel", "T5Config", d_model=32, d_kv=8, d_ff=40, num_layers=2,
                        num_heads=4, vocab_size=61),
    "mpnet": lambda: model("MPNetModel", "MPNetConfig", **BERT),
    "questions": lambda: model("BertForQuestionAnswering", "BertConfig", **BERT),
}  # fmt: skip
OUTPUTS = {
    "encoder": ["last_hidden_state", "pooler_output"],
    "tokens": ["logits"],
    "sequence": ["logits"],
    "causal": ["logits"],
    "t5": ["last_hidden_state"],
    "mpnet": ["last_hidden_state", "pooler_output"],
    "questions": ["start_logits", "end_logits"],
}
QUICK = ("tokens", "causal")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TEXTS]
)
def test_models_of_texts(name: str, tmp_path: Path) -> None:
    result = api.convert(f"transformers:{saved(TEXTS[name](), tmp_path)}")
    assert result.verified is not None
    assert result.verified.ok
    assert [spec.name for spec in result.model.signature.outputs] == OUTPUTS[name]
    for spec in result.model.signature.inputs:
        assert (spec.dtype, spec.shape) == ("int64", ("batch", "sequence"))
    names = {spec.name for spec in result.model.signature.inputs}
    assert {"input_ids", "attention_mask"} <= names
    assert ("token_type_ids" in names) == (name in ("encoder", "questions"))
    shapes = {case.shapes["input_ids"] for case in result.verified.cases}
    assert {(1, 7), (2, 7), (5, 7), (1, 33), (2, 33), (5, 33), (2, 16)} <= shapes


def converted(result: Converted) -> list[tuple[int | str, ...] | None]:
    assert result.verified is not None
    assert result.verified.ok, result.verified.first_mismatch
    return [spec.shape for spec in result.model.signature.inputs]


def test_images_of_one_size(tmp_path: Path) -> None:
    vit = model("ViTForImageClassification", "ViTConfig", **VIT, image_size=24, patch_size=8,
                num_labels=3)  # fmt: skip
    result = api.convert(saved(vit, tmp_path))
    assert converted(result) == [("batch", 3, 24, 24)]


def test_images_of_any_size(tmp_path: Path) -> None:
    net = model("ConvNextForImageClassification", "ConvNextConfig", hidden_sizes=[8, 8, 16, 16],
                depths=[1, 1, 1, 1], num_labels=3, image_size=64)  # fmt: skip
    result = api.convert(saved(net, tmp_path))
    assert converted(result) == [("batch", 3, "height", "width")]
    assert result.verified is not None
    assert len({case.shapes["pixel_values"][2:] for case in result.verified.cases}) >= 3


@pytest.mark.slow
def test_segmentation(tmp_path: Path) -> None:
    net = model("SegformerForSemanticSegmentation", "SegformerConfig",
                hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1],
                decoder_hidden_size=16, num_attention_heads=[1, 2, 2, 2],
                image_size=64, num_labels=4)  # fmt: skip
    assert converted(api.convert(saved(net, tmp_path))) == [("batch", 3, "height", "width")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yolos", "detr"])
def test_detection(kind: str, tmp_path: Path) -> None:
    if kind == "yolos":
        net = model("YolosForObjectDetection", "YolosConfig", **VIT, image_size=[64, 96],
                    patch_size=16, num_detection_tokens=5, num_labels=3)  # fmt: skip
    else:
        backbone = transformers().ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], layer_type="basic",
            out_features=["stage4"],
        )  # fmt: skip
        net = model("DetrForObjectDetection", "DetrConfig", use_timm_backbone=False,
                    use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
                    d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                    decoder_attention_heads=2, encoder_ffn_dim=40, decoder_ffn_dim=40,
                    num_queries=5, num_labels=3)  # fmt: skip
    result = api.convert(saved(net, tmp_path))
    assert converted(result) == [("batch", 3, "height", "width")]
    assert {"logits", "pred_boxes"} <= {spec.name for spec in result.model.signature.outputs}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that learned to tell texts with 'good' or 'great' from the others."""
    config = bert_config(3, num_labels=2, id2label={0: "other", 1: "praise"})
    torch.manual_seed(0)
    net, tokens = transformers().BertForSequenceClassification(config), tokenizer()
    texts = sentences(192, seed=1)
    labels = torch.tensor([int("good" in t.lower() or "great" in t.lower()) for t in texts])
    batch = tokens(texts, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(60):
        loss = net(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        assert (net.eval()(**batch).logits.argmax(1) == labels).float().mean() > 0.95
    return saved(net, tmp_path_factory.mktemp("trained"), tokens)


@pytest.fixture(scope="module")
def pressed(trained: Path) -> Converted:
    return api.convert(f"transformers:{trained}")


def test_a_trained_classifier_keeps_its_labels(trained: Path, pressed: Converted,
                                               tmp_path: Path) -> None:  # fmt: skip
    with open_source(f"transformers:{trained}") as origin, origin.session() as reference:
        assert origin.processing is not None
        assert origin.processing.labels == ("other", "praise")
        bound = TextClassification().bind(pressed.model.signature, origin.processing)
        feeds = bound.encode([Record(text) for text in sentences(100, seed=2)])
        wanted = reference.run(feeds)
        with (
            open_source(pressed.model.save(tmp_path / "m.onnx")) as onnx,
            onnx.session() as session,
        ):
            found = session.run(feeds)
    assert [p["class"] for p in bound.decode(found, [])] == [
        p["class"] for p in bound.decode(wanted, [])
    ]
    assert len({p["class"] for p in bound.decode(found, [])}) == 2
    np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-5)


def test_live_models_and_pairs(trained: Path, pressed: Converted) -> None:
    library = transformers()
    net = library.AutoModelForSequenceClassification.from_pretrained(trained, local_files_only=True)
    with open_source(net) as alone, open_source((net, tokenizer())) as pair:
        assert alone.kind == pair.kind == "transformers"
        assert alone.processing is not None
        assert alone.processing.text is None
        assert pair.processing is not None
        assert pair.processing.text is not None
        assert [s.name for s in alone.export(ExportOptions()).model.signature.inputs] == [
            s.name for s in pressed.model.signature.inputs
        ]


def test_shape_and_static(trained: Path) -> None:
    with open_source(trained) as origin:
        static = convert(origin, ExportOptions(static=True))
        assert converted(static) == [(1, 16)] * 3
        asked = convert(origin, ExportOptions(shapes={"input_ids": ("n", 12)}))
        assert converted(asked) == [("n", 12)] * 3
        with pytest.raises(InputError, match="dimensions"):
            origin.export(ExportOptions(shapes={"input_ids": ("n",)}))


class Blind(Session):
    """Ignores the mask: what an export that lost it would do."""

    def __init__(self, inner: Session) -> None:
        super().__init__()
        self._inner, self.signature = inner, inner.signature

    def _run(self, feeds: Any) -> Feeds:
        return self._inner.run({**feeds, "attention_mask": np.ones_like(feeds["attention_mask"])})


def test_the_sweep_finds_a_lost_mask(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_source(trained) as origin:
        session = origin.session
        monkeypatch.setattr(origin, "session", lambda *a, **k: Blind(session(*a, **k)))
        result = convert(origin, ExportOptions(exporter="torchscript"))
    assert result.verified is not None
    assert not result.verified.ok


def test_the_sweep_finds_a_frozen_length(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What depends on the length is baked in as a constant: right for the example's alone."""
    with open_source(trained) as origin:
        net = origin._inner  # type: ignore[attr-defined]
        embeddings = net.bert.embeddings
        forward = embeddings.forward

        def frozen(*args: Any, **kwargs: Any) -> Any:
            result = forward(*args, **kwargs)
            return result if int(result.shape[1]) == 16 else result.flip(-1)

        monkeypatch.setattr(embeddings, "forward", frozen)
        result = convert(origin, ExportOptions(exporter="torchscript"))
    lengths = {case.shapes["input_ids"][1]: case.ok for case in result.verified.cases}  # type: ignore[union-attr]
    assert lengths == {16: True, 8: False, 24: False, 7: False, 33: False}


def test_random_feeds_stay_in_range(trained: Path) -> None:
    with open_source(trained) as origin, origin.session() as session:
        for seed in range(5):
            feeds = random_feeds(session.signature, 5, seed, origin.example)
            assert feeds["input_ids"].max() < len(SPECIAL) + len(WORDS)
            assert set(np.unique(feeds["token_type_ids"])) <= {0, 1}
            mask = feeds["attention_mask"]
            assert mask.any(axis=1).all()
            assert (np.diff(mask, axis=1) <= 0).all()
            assert not mask.all()


UNICODE = [
    "Good cats", "", "  ", "caf\u00e9s CAFE\u0301 caf\u00e9", "\u200bzero\u200b width",
    "\U0001f476\U0001f3fd the \U0001f469\u200d\U0001f467 dog", "\ufb01nds \u00bd \u2461",
    "\u0645\u0631\u062d\u0628\u0627 the \u05e9\u05dc\u05d5\u05dd", "\u5317\u4eac the \u6771",
    "a\tb\nc\r\nd", "the\u00a0dog", "\u0130stanbul \u01c5 \u00df \u1e9e", "\ufeffmark",
    "the " * 60, "x" * 300, "[MASK] [CLS] the", "\x00nul",
]  # fmt: skip


@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_are_the_librarys(side: str, trained: Path, tmp_path: Path) -> None:
    tokens = tokenizer(side)
    net = transformers().AutoModel.from_pretrained(trained, local_files_only=True)
    with open_source((net, tokens)) as origin:
        assert origin.processing is not None
        assert origin.processing.text is not None
        encoder = origin.processing.text.open()
    expected = tokens(UNICODE, padding=True, truncation=True, max_length=24, return_tensors="np")
    found = encoder.encode(UNICODE)
    assert set(found) == set(expected)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_slow_tokenizer_converts_and_says_so_when_texts_come(trained: Path) -> None:
    net = transformers().AutoModel.from_pretrained(trained, local_files_only=True)

    class Slow:
        model_input_names = ("input_ids", "attention_mask")
        pad_token_id = 0

    with open_source((net, Slow())) as origin:
        assert origin.example is not None
        with pytest.raises(InputError, match=r"Slow has no tokenizer\.json"):
            _ = origin.processing


def test_own_code_needs_trust(trained: Path, tmp_path: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(InputError, match=r"brings its own code.*--trust"):
        open_source(f"transformers:{tmp_path}")


OWN = """
import torch
from transformers import PretrainedConfig, PreTrainedModel


class MineConfig(PretrainedConfig):
    model_type = "mine"


class Mine(PreTrainedModel):
    config_class = MineConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.table = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        mask = attention_mask[..., None].float()
        return {"pooled": (self.table(input_ids) * mask).sum(1) / mask.sum(1)}
"""


def test_own_code_runs_with_trust(trained: Path, tmp_path: Path) -> None:
    weights = torch.randn(50, 8)
    (tmp_path / "mine.py").write_text(OWN)
    config = {
        "model_type": "mine",
        "architectures": ["Mine"],
        "auto_map": {"AutoConfig": "mine.MineConfig", "AutoModel": "mine.Mine"},
        "vocab_size": 50,
        "hidden_size": 8,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"table.weight": weights}, tmp_path / "model.safetensors", {"format": "pt"})
    result = api.convert(f"transformers:{tmp_path}", trust=True)
    assert result.verified is not None
    assert result.verified.ok
    assert [spec.name for spec in result.model.signature.outputs] == ["pooled"]
    kept = result.model.ir.graph.initializers["model.table.weight"].const_value
    np.testing.assert_array_equal(kept.numpy(), weights)


@pytest.mark.parametrize("where", ["no/such/folder", "", "model.onnx", "a b"])
def test_a_name_that_is_none(where: str) -> None:
    with pytest.raises(OnnxpressError, match="does not exist") as caught:
        open_source(f"transformers:{where}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["config", "truncated", "weights", "no config"])
def test_a_damaged_folder_is_one_line(damage: str, trained: Path, tmp_path: Path) -> None:
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "config":
        config.write_text("{")
    elif damage == "no config":
        config.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    else:
        weights.unlink()
    with pytest.raises(OnnxpressError) as caught:
        open_source(f"transformers:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_flags_that_mean_nothing_here(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its weights"):
        open_source(trained, OpenOptions(checkpoint=tmp_path))


def test_without_the_library(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "transformers" else find(n, *a)
    )
    with pytest.raises(MissingExtra, match=r"onnxpress\[transformers\]"):
        open_source(f"transformers:{trained}")


def test_a_model_of_sound_is_refused() -> None:
    net = model("ASTForAudioClassification", "ASTConfig", **VIT, max_length=32, num_mel_bins=16)
    with pytest.raises(SourceError, match="a model of texts or of images"):
        open_source(net)


def test_the_command_line(trained: Path, shell: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = shell("convert", f"transformers:{trained}", "-o", "m.onnx", "--json",
                         "--exporter", "torchscript")  # fmt: skip
    assert code == 0
    told = json.loads(out)
    assert told["verified"]["ok"]
    assert told["exporter"] == "torchscript"
    assert [spec["name"] for spec in told["outputs"]] == ["logits"]


BROKEN = """
import sys
from onnxpress.sources._transformers.library import library
library().BertModel
assert "torchvision" not in sys.modules
"""


def test_a_torchvision_that_cannot_be_imported(tmp_path: Path) -> None:
    """As its ordinary wheel beside a CPU build of PyTorch."""
    (tmp_path / "torchvision").mkdir()
    init = tmp_path / "torchvision" / "__init__.py"
    init.write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", BROKEN],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
