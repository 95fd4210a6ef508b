"""Hugging Face transformers: a folder, a name on the hub, or a live model."""

from __future__ import annotations

import json
from pathlib import Path

from onnxpress.source import OpenOptions, Origin, Source


class Transformers(Source):
    """``transformers:DIR_OR_NAME``, a ``PreTrainedModel``, or a pair of it and its processor.

    The architecture that ``config.json`` names decides the head: encoders, sequence and token
    classification, question answering, image classification, semantic segmentation, object
    detection, causal language models without cache. The processor is a tokenizer or an image
    processor.
    """

    def accepts(self, ref: object) -> bool:
        if isinstance(ref, str | Path):
            return is_folder(ref) and not (Path(ref) / "modules.json").is_file()
        model = ref[0] if isinstance(ref, tuple) and len(ref) == 2 else ref
        return any(base.__name__ == "PreTrainedModel" for base in type(model).__mro__)

    def open(self, ref: object, options: OpenOptions) -> Origin:
        from onnxpress.sources._transformers.library import library

        library()
        from onnxpress.sources._transformers.origin import open_origin

        return open_origin(ref, options)

    def warm(self, name: str) -> None:
        from onnxpress.sources._transformers.library import library

        library()


def is_folder(ref: str | Path) -> bool:
    """Whether it is a folder whose ``config.json`` names a kind of model."""
    try:
        config = json.loads((Path(ref) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config
