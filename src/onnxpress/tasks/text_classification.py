"""Text classification: texts in, one score per class out."""

from __future__ import annotations

from onnxpress.errors import InputError
from onnxpress.processing import Processing
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Task
from onnxpress.tasks._classes import ClassBound, is_scores
from onnxpress.tasks._text_input import TextInput, takes_texts

OUTPUT = "logits"


class TextClassification(Task):
    """Token inputs, and an output ``logits`` (batch, classes); others are ignored."""

    def fits(self, signature: Signature, kind: str) -> bool:
        return kind == "texts" and takes_texts(signature) and _scores(signature) is not None

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        output = _scores(signature)
        if output is None:
            raise InputError(
                f"the model gives {', '.join(map(str, signature.outputs))}",
                f"a float output {OUTPUT} (batch, classes) of 2 or more",
                "choose another --task",
            )
        labels = processing.labels if processing else ()
        return _Bound(TextInput(signature, processing), output, labels)


class _Bound(ClassBound):
    def __init__(self, texts: TextInput, output: TensorSpec, labels: tuple[str, ...]) -> None:
        super().__init__(output, labels)
        self.encoder = texts


def _scores(signature: Signature) -> TensorSpec | None:
    named = (spec for spec in signature.outputs if spec.name == OUTPUT)
    return next((spec for spec in named if is_scores(spec)), None)
