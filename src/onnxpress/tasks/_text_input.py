"""What a model's token inputs and the text processing say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature
from onnxpress.stacking import stack
from onnxpress.task import Encoder, Ready
from onnxpress.tokenizing import INPUTS, Tokens, Word


def takes_texts(signature: Signature) -> bool:
    """Whether the inputs are token ids and what goes with them."""
    specs = {spec.name: spec for spec in signature.inputs}
    return "input_ids" in specs and all(
        name in INPUTS and spec.dtype == "int64" and spec.shape is not None and len(spec.shape) == 2
        for name, spec in specs.items()
    )


class TextInput(Encoder):
    """Encodes texts for one model. Raises ``InputError`` where no tokenizer is known."""

    def __init__(self, signature: Signature, processing: Processing | None) -> None:
        shown = ", ".join(map(str, signature.inputs))
        if not takes_texts(signature):
            raise InputError(
                f"the model takes {shown}",
                f"int64 inputs of rank 2 named {', '.join(INPUTS)}",
                "choose another --task",
            )
        text = processing.text if processing else None
        if text is None:
            raise InputError(
                f"the model takes {shown}, but nothing says how texts become tokens",
                "a tokenizer",
                "give --tokenizer with the folder of its tokenizer.json",
            )
        names = tuple(spec.name for spec in signature.inputs)
        first = signature.inputs[0].shape
        assert first is not None
        self._signature, self._length = signature, first[1] if isinstance(first[1], int) else None
        limit = text.max_length if self._length is None else min(text.max_length, self._length)
        self._encoder = replace(text, inputs=names, max_length=limit).open()

    def prepare(self, records: Sequence[Record]) -> list[Ready]:
        """Tokens of texts; mappings of input name → array are ready tensors and are kept."""
        if all(isinstance(record.value, Mapping) for record in records):
            return super().prepare(records)
        return [
            Ready(record, tokens, self._length or len(tokens.ids))
            for record, tokens in zip(records, self._encoder.tokens(_texts(records)), strict=True)
        ]

    def sized(self, records: Sequence[Record], length: int) -> list[Ready]:
        if any(isinstance(record.value, Mapping) for record in records):
            return super().sized(records, length)
        if self._length not in (None, length):
            raise InputError(f"--length {length}", f"{self._length}: the model takes no other")
        made = zip(records, self._encoder.sized(_texts(records), length), strict=True)
        return [Ready(record, tokens, length) for record, tokens in made if tokens is not None]

    def stack(self, ready: Sequence[Ready]) -> Feeds:
        """Texts padded to the longest of the batch."""
        tokens = [one.value for one in ready if isinstance(one.value, Tokens)]
        if not tokens:
            return stack(self._signature, [one.record for one in ready])
        if len(tokens) < len(ready):
            raise SamplesError("texts and tensors in one batch", "either of them")
        return self._encoder.stack(tokens, self._length)

    def words(self, records: Sequence[Record], length: int) -> list[list[Word]]:
        """Of each text, among ``length`` tokens; none of a ready tensor."""
        texts = [record.value if isinstance(record.value, str) else "" for record in records]
        return self._encoder.words(texts, length)


def _texts(records: Sequence[Record]) -> list[str]:
    texts = []
    for record in records:
        if not isinstance(record.value, str):
            what = f"record '{record.name}'" if record.name else "a record"
            raise SamplesError(f"{what} is a {type(record.value).__name__}", "a text")
        texts.append(record.value)
    return texts
