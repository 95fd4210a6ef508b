"""Text embedding: texts in, one vector each out."""

from __future__ import annotations

from onnxpress.errors import InputError
from onnxpress.processing import Processing
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Task
from onnxpress.tasks._text_input import TextInput, takes_texts
from onnxpress.tasks._vectors import VectorBound, is_vector

OUTPUT = "sentence_embedding"


class TextEmbedding(Task):
    """Token inputs, and a float output ``sentence_embedding`` (batch, dimensions)."""

    uses_labels = False

    def fits(self, signature: Signature, kind: str) -> bool:
        return kind == "texts" and takes_texts(signature) and _embedding(signature) is not None

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        output = _embedding(signature)
        if output is None:
            raise InputError(
                f"the model gives {', '.join(map(str, signature.outputs))}",
                f"a float output {OUTPUT} (batch, dimensions)",
                "choose another --task",
            )
        return _Bound(TextInput(signature, processing), output)


class _Bound(VectorBound):
    def __init__(self, texts: TextInput, output: TensorSpec) -> None:
        super().__init__(output)
        self.encoder = texts


def _embedding(signature: Signature) -> TensorSpec | None:
    found = (spec for spec in signature.outputs if spec.name == OUTPUT and is_vector(spec))
    return next(found, None)
