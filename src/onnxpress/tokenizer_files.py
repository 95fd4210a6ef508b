"""A folder that the transformers library saved, as what makes tokens of a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxpress.errors import InputError, first_line
from onnxpress.tokenizing import SIDES, UNLIMITED, TextProcessing, tokenizer_of

TOKENIZER = "tokenizer.json"
COUNTED_FROM_PADDING = frozenset(
    {
        "camembert", "data2vec-text", "ibert", "layoutlmv3", "longformer", "luke", "markuplm",
        "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip
"""Models whose ``max_position_embeddings`` counts the positions up to that of padding too."""
NORMALIZED = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
"""What ``tokenizer_config.json`` and a BERT's normalizer in ``tokenizer.json`` both say."""


def read_tokenizer(folder: Path) -> TextProcessing:
    """What the files say that are saved beside a model, or beside ``folder`` as the very file.

    ``tokenizer.json``, and where they are there ``tokenizer_config.json``,
    ``special_tokens_map.json``, ``config.json`` and, of sentence-transformers, the longest text,
    whether it is put in lower case, and the default prompt. As in these libraries, the truncation
    that ``tokenizer.json`` holds itself counts only where nothing else tells the longest text, and
    its segment of padding never does: it is 0.
    Raises ``InputError`` where they do not say how to tokenize, or contradict each other.
    """
    folder = folder.parent if folder.name == TOKENIZER else folder
    path = folder / TOKENIZER
    if not path.is_file():
        found = f"has no {TOKENIZER}" if folder.is_dir() else "is no folder here"
        raise InputError(
            f"--tokenizer {folder} {found}",
            f"a folder with {TOKENIZER}, as the transformers library saves it",
            "AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER) writes one",
        )
    parts, own = _json(path), _json(folder / "tokenizer_config.json")
    special, config = _json(folder / "special_tokens_map.json"), _json(folder / "config.json")
    sentences = next(map(_json, sorted(folder.glob("sentence_*_config.json"))), {})
    _refuse_contradictions(folder, own, parts.get("normalizer"))
    if sentences.get("do_lower_case"):
        parts = {**parts, "normalizer": _lower_case(parts.get("normalizer"))}
    tokenizer = tokenizer_of(json.dumps(parts, ensure_ascii=False), path)
    pads, cut = tokenizer.padding or {}, tokenizer.truncation or {}
    tokenizer.no_padding()
    tokenizer.no_truncation()
    limits = (sentences.get("max_seq_length"), own.get("model_max_length"), _places(config))
    known = [n for n in map(_number, limits) if n is not None] or [cut.get("max_length", 0)]
    if known == [0]:
        raise InputError(
            f"--tokenizer {folder} does not tell the longest text",
            "a model_max_length in tokenizer_config.json",
        )
    pad = _text(own.get("pad_token")) or _text(special.get("pad_token")) or pads.get("pad_token")
    ids = (tokenizer.token_to_id(pad or ""), pads.get("pad_id"), config.get("pad_token_id"))
    return TextProcessing.of(
        tokenizer.to_str(),
        max_length=min(known),
        pad_token=pad or "",
        pad_id=next((n for n in ids if isinstance(n, int)), 0),
        padding_side=_side(folder, own, "padding_side", pads),
        truncation_side=_side(folder, own, "truncation_side", cut),
        prefix=_prompt(_json(folder / "config_sentence_transformers.json")),
    )


def _json(path: Path) -> Mapping[str, Any]:
    """Empty where there is no such file. Raises ``InputError`` that names it."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = f"--tokenizer: {path} cannot be read ({first_line(error)})"
        raise InputError(found, "the JSON that the transformers library saves") from error
    if not isinstance(data, dict):
        found = f"--tokenizer: {path} holds a {type(data).__name__}"
        raise InputError(found, "an object, as the transformers library saves it")
    return data


def _refuse_contradictions(folder: Path, own: Mapping[str, Any], normalizer: object) -> None:
    """Which of the two the library believes depends on its version and the tokenizer's class."""
    if not isinstance(normalizer, Mapping) or normalizer.get("type") != "BertNormalizer":
        return
    for key, name in NORMALIZED.items():
        if own.get(key) is not None and own[key] != normalizer.get(name):
            raise InputError(
                f"--tokenizer {folder}: tokenizer_config.json says {key} {own[key]} and "
                f"{TOKENIZER} {name} {normalizer.get(name)}",
                "the same in both",
                "save the tokenizer again with the transformers library",
            )


def _lower_case(normalizer: object) -> object:
    """Before anything else, unless the normalizer does it already; as sentence-transformers do."""
    told = json.dumps(normalizer)
    if '"type": "Lowercase"' in told or '"lowercase": true' in told:
        return normalizer
    first = {"type": "Lowercase"}
    return first if normalizer is None else {"type": "Sequence", "normalizers": [first, normalizer]}


def _places(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model has positions for."""
    places = _number(config.get("max_position_embeddings", config.get("n_positions")))
    padding = config.get("pad_token_id")
    if places and isinstance(padding, int) and config.get("model_type") in COUNTED_FROM_PADDING:
        return places - padding - 1
    return places


def _prompt(config: Mapping[str, Any]) -> str:
    """What sentence-transformers put in front of each text."""
    prompts = config.get("prompts")
    named = prompts.get(config.get("default_prompt_name")) if isinstance(prompts, Mapping) else ""
    return _text(named)


def _side(folder: Path, own: Mapping[str, Any], name: str, file: Mapping[str, Any]) -> str:
    side = own.get(name) or file.get("direction") or SIDES[1]
    if side not in SIDES:
        raise InputError(f"--tokenizer {folder} has the {name} {side}", " or ".join(SIDES))
    return str(side)


def _number(value: object) -> int | None:
    """None also for the library's 1e30, which is no limit."""
    return int(value) if isinstance(value, int | float) and 0 < value < UNLIMITED else None


def _text(token: object) -> str:
    """A token as the library writes it: its text, or an object that has it; empty for none."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else ""
