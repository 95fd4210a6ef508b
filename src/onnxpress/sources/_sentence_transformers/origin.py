"""A SentenceTransformer as an origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxpress.engine import Session
from onnxpress.errors import InputError, SourceError
from onnxpress.pipeline import PREDICTIONS, RECORDS, SIGNATURE, objects
from onnxpress.processing import Processing
from onnxpress.signature import Feeds
from onnxpress.source import OpenOptions
from onnxpress.sources._transformers.head import Head
from onnxpress.sources._transformers.inputs import TextInputs
from onnxpress.sources._transformers.library import library
from onnxpress.sources._transformers.loading import TRUST, folder_or_name, loading, refuse_code
from onnxpress.sources._transformers.origin import LibraryOrigin, refuse_flags, text_inputs
from onnxpress.sources._transformers.text import text_processing

OUTPUT = "sentence_embedding"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OWN_MODULES = "sentence_transformers."


def open_origin(ref: object, options: OpenOptions) -> SentenceOrigin:
    """Raises ``InputError`` or ``SourceError``; modules of other packages need ``--trust``."""
    refuse_flags(options)
    if not isinstance(ref, str | Path):
        return SentenceOrigin(ref, options)
    local = folder_or_name(str(ref))
    if local:
        _refuse_foreign_modules(Path(ref), options)
    package = library("sentence_transformers", "sentence-transformers")
    with loading(str(ref), options):
        model = package.SentenceTransformer(
            str(ref),
            device="cpu",
            trust_remote_code=options.trust,
            local_files_only=local,
            model_kwargs={"dtype": torch.float32},
        )
    return SentenceOrigin(model, options)


class SentenceOrigin(LibraryOrigin):
    """All modules of the model, from token ids to the embedding that ``encode`` gives."""

    kind = "sentence_transformers"

    def __init__(self, model: Any, options: OpenOptions) -> None:
        first = model[0] if len(model) else None
        inner, tokenizer = getattr(first, "auto_model", None), getattr(model, "tokenizer", None)
        if inner is None or tokenizer is None or inner.main_input_name != "input_ids":
            raise SourceError(
                f"the first module is a {type(first).__name__}",
                "a Transformer of texts with a tokenizer",
            )
        self._sentences, self._prompt = model.eval(), _prompt(model)
        taken = getattr(first, "model_forward_params", None) or INPUTS
        names = tuple(n for n in INPUTS if n in tokenizer.model_input_names and n in taken)
        inputs = text_inputs(inner, tokenizer, names)
        dimensions: int | None = model.truncate_dim

        def call(given: Mapping[str, torch.Tensor]) -> Mapping[str, object]:
            embedding = model(dict(given))[OUTPUT][..., :dimensions]
            return {OUTPUT: embedding.to(torch.float32)}

        identity = f"{[_config(module) for module in model]} {dimensions}"
        super().__init__(Head(model, names, call), inner, inputs, options, identity)

    def pipeline(self, threads: int | None = None) -> Session:
        """``SentenceTransformer.encode``, all records as one batch."""
        if threads:
            torch.set_num_threads(threads)
        return _Encode(self._sentences)

    def _processing(self) -> Processing:
        model, inputs = self._sentences, self._inputs
        assert isinstance(inputs, TextInputs)
        text = text_processing(
            model.tokenizer, inputs.names, model.max_seq_length, inputs.longest, self._prompt
        )
        return Processing(text=text)


class _Encode(Session):
    """From texts to float32 (dimensions,) each, as the library does it."""

    signature = SIGNATURE

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        texts = [record.value for record in feeds[RECORDS].tolist()]
        vectors = self._model.encode(texts, batch_size=len(texts), show_progress_bar=False)
        return {PREDICTIONS: objects(list(vectors))}


def _config(module: Any) -> str:
    """What a module was made with, such as how it pools: that is no weight."""
    told = module.get_config_dict() if hasattr(module, "get_config_dict") else {}
    return f"{type(module).__name__} {sorted(told.items())}"


def _prompt(model: Any) -> str:
    """What ``encode`` puts in front of each text. Raises ``SourceError`` where it is not pooled."""
    name = model.default_prompt_name
    prompt = str(model.prompts[name]) if name else ""
    excluded = [module for module in model if getattr(module, "include_prompt", True) is False]
    if prompt and excluded:
        raise SourceError(
            f"the prompt '{prompt}' is left out of pooling (include_prompt=False)",
            "a model that pools all tokens, or one without a default prompt",
        )
    return prompt


def _refuse_foreign_modules(folder: Path, options: OpenOptions) -> None:
    """Raise ``InputError`` where ``modules.json`` names code that is not the library's own."""
    path = folder / "modules.json"
    if not path.is_file():
        raise InputError(f"{folder} has no modules.json", "a folder that SentenceTransformer saved")
    try:
        types = [str(module["type"]) for module in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error})", "a list of modules") from error
    if options.trust:
        return
    foreign = [name for name in types if not name.startswith(OWN_MODULES)]
    if foreign:
        raise InputError(f"{folder} brings its own code ({', '.join(foreign)})", *TRUST)
    if (folder / "config.json").is_file():
        refuse_code(folder, options)
