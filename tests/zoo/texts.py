"""Small models of texts: a tokenizer of forty words, and BERTs of any width and depth."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

WORDS = tuple(
    "the a cat dog doctor sailor robot child eats paints sells loves finds red small old apple "  # noqa: SIM905  # a list of forty strings says no more
    "engine map song bread match in near with during morning harbour care war paris good bad great "
    "awful not very ##s ##ing ##ed caf ##e".split()
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NOUNS, VERBS = WORDS[2:8], WORDS[8:13]


def transformers() -> ModuleType:
    """The library as the product imports it."""
    from onnxpress.sources._transformers.library import library

    return library()


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different lengths, capitals and accents among them."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        length = int(rng.integers(1, 12))
        made.append(" ".join(rng.choice(WORDS[:34]) for _ in range(length)).capitalize())
    return made


def tokenizer(side: str = "right") -> Any:
    """A fast WordPiece tokenizer that ends texts as BERT does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return transformers().PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=24,
        padding_side=side,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def bert_config(seed: int = 0, **how: object) -> Any:
    """Width and depth drawn from the seed."""
    rng = np.random.default_rng(seed)
    heads = int(rng.integers(1, 4))
    sizes = {
        "hidden_size": 16 * heads,
        "num_attention_heads": heads,
        "num_hidden_layers": int(rng.integers(1, 3)),
        "intermediate_size": int(rng.integers(20, 50)),
        "vocab_size": len(SPECIAL) + len(WORDS),
        "max_position_embeddings": 40,
    }
    return transformers().BertConfig(**{**sizes, **how})


def saved(model: Any, folder: Path, processor: Any | None = None) -> Path:
    from onnxpress.sources._transformers.library import quiet

    with quiet():
        model.save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
    return folder


def sentence_model(
    folder: Path,
    pooling: str | tuple[str, ...] = "mean",
    *,
    seed: int = 0,
    dense: int | None = None,
) -> Any:
    """A SentenceTransformer with seeded weights, that ends in normalisation."""
    import torch

    from onnxpress.sources._transformers.library import library, quiet

    package = library("sentence_transformers", "sentence-transformers")
    torch.manual_seed(seed)
    saved(transformers().BertModel(bert_config(seed)), folder, tokenizer())
    with quiet():
        from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

        first = Transformer(str(folder))
        pool = Pooling(first.get_embedding_dimension(), pooling)
        parts: list[Any] = [first, pool]
        if dense is not None:
            parts.append(Dense(pool.get_embedding_dimension(), dense))
        return package.SentenceTransformer(modules=[*parts, Normalize()], device="cpu")
