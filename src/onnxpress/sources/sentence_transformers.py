"""Sentence Transformers: a folder, a name on the hub, or a live model; one embedding per text."""

from __future__ import annotations

from pathlib import Path

from onnxpress.source import OpenOptions, Origin, Source


class SentenceTransformers(Source):
    """``sentence-transformers:DIR_OR_NAME``, or a ``SentenceTransformer``.

    Pooling, dense layers and normalisation are inside the graph: its one output is
    ``sentence_embedding``.
    """

    def accepts(self, ref: object) -> bool:
        if isinstance(ref, str | Path):
            return (Path(ref) / "modules.json").is_file()
        return any(base.__name__ == "SentenceTransformer" for base in type(ref).__mro__)

    def open(self, ref: object, options: OpenOptions) -> Origin:
        from onnxpress.sources._transformers.library import library

        library("sentence_transformers", "sentence-transformers")
        from onnxpress.sources._sentence_transformers.origin import open_origin

        return open_origin(ref, options)

    def warm(self, name: str) -> None:
        from onnxpress.sources._transformers.library import library

        library("sentence_transformers", "sentence-transformers")
