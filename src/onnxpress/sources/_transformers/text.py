"""What a tokenizer of the library says, as our own processing."""

from __future__ import annotations

from typing import Any

from onnxpress.errors import InputError, MissingExtra
from onnxpress.tokenizing import UNLIMITED, TextProcessing


def text_processing(
    tokenizer: Any,
    inputs: tuple[str, ...],
    limit: object = None,
    places: int | None = None,
    prefix: str = "",
) -> TextProcessing:
    """``limit`` is the longest text in tokens, where one is set; ``places`` the model's own.

    Raises ``InputError`` where the tokenizer is not one of the library ``tokenizers``, cannot
    pad, or does more to a text than its file says.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    name = type(tokenizer).__name__
    if backend is None or not hasattr(backend, "to_str"):
        raise InputError(
            f"{name} has no tokenizer.json",
            "a fast tokenizer",
            "convert it with the transformers library and save it beside the model",
        )
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra.of("tokenizers", "text", "turns texts into tokens") from None
    plain = Tokenizer.from_str(backend.to_str())
    plain.no_padding()
    plain.no_truncation()
    limits = [
        int(value)
        for value in (limit, getattr(tokenizer, "model_max_length", None), places)
        if isinstance(value, int | float) and 0 < value < UNLIMITED
    ]
    if not limits:
        raise InputError(f"{name} knows no longest text", "a model_max_length in its config")
    # Where nothing pads, the mask alone says what counts, and any id will do.
    pad, pad_id = tokenizer.pad_token, tokenizer.pad_token_id
    return TextProcessing.of(
        plain.to_str(),
        max_length=min(limits),
        pad_token=str(pad) if pad is not None else "",
        pad_id=int(pad_id) if pad_id is not None else 0,
        pad_type_id=int(getattr(tokenizer, "pad_token_type_id", 0) or 0),
        padding_side=str(tokenizer.padding_side),
        truncation_side=str(tokenizer.truncation_side),
        prefix=prefix,
        inputs=inputs,
    )
