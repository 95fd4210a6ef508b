"""Token classification: texts in, spans with a label out, such as names and places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.intervals import needed_for_proportion, wilson_lower
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.task import Bound, Prediction, Quality, Scored, Task
from onnxpress.tasks._text_input import TextInput, takes_texts
from onnxpress.tokenizing import Word

OUTPUT, MASK = "logits", "attention_mask"
OUTSIDE = "O"
BEGIN, INSIDE = "B-", "I-"


class TokenClassification(Task):
    """Token inputs, and an output ``logits`` (batch, tokens, labels); others are ignored.

    Labels of the samples are not used: quality is agreement with the origin.
    """

    uses_labels = False

    def fits(self, signature: Signature, kind: str) -> bool:
        return kind == "texts" and takes_texts(signature) and _scores(signature) is not None

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        output = _scores(signature)
        if output is None:
            raise InputError(
                f"the model gives {', '.join(map(str, signature.outputs))}",
                f"a float output {OUTPUT} (batch, tokens, labels) of 2 labels or more",
                "choose another --task",
            )
        labels = processing.labels if processing else ()
        count = output.shape[2] if output.shape else 0
        if labels and isinstance(count, int) and len(labels) != count:
            raise InputError(f"{len(labels)} label names for output {output}", f"{count} names")
        return _Bound(TextInput(signature, processing), labels)


@dataclass
class _Span:
    """Neighbouring words of one entity; ``scores`` are the words'."""

    label: str
    start: int
    end: int
    scores: list[float]


class _Bound(Bound):
    def __init__(self, texts: TextInput, labels: tuple[str, ...]) -> None:
        self.encoder = self._texts = texts
        self._labels = labels

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"entities": [{"label", "text", "start", "end", "score"}]}``.

        ``start`` and ``end`` count characters of the text. A word has the label of its first
        token; words of one entity (``B-X``, ``I-X``, or neighbours of the same label) are one
        span, whose score is their mean; ``O`` is left out. A record that is no text has the best
        label of each token as ``{"labels": [...]}``.
        """
        scores = outputs[OUTPUT].astype(np.float64)
        return [
            {"entities": list(self._entities(record.value, row, words))}
            if isinstance(record.value, str)
            else {"labels": [self._name(int(index)) for index in row.argmax(axis=1)]}
            for record, row, words in zip(
                records, scores, self._texts.words(records, scores.shape[1]), strict=True
            )
        ]

    def _entities(
        self, text: str, scores: np.ndarray, words: Sequence[Word]
    ) -> Iterator[dict[str, object]]:
        for span in self._spans(scores, words):
            yield {
                "label": span.label,
                "text": text[span.start : span.end],
                "start": span.start,
                "end": span.end,
                "score": float(np.mean(span.scores)),
            }

    def _spans(self, scores: np.ndarray, words: Sequence[Word]) -> list[_Span]:
        spans: list[_Span] = []
        before = OUTSIDE
        for word in words:
            row = scores[word.token]
            powers = np.exp(row - row.max())
            best = int(row.argmax())
            name = self._name(best)
            label = name.removeprefix(BEGIN).removeprefix(INSIDE)
            score = float(powers[best] / powers.sum())
            if name != OUTSIDE and label == before and not name.startswith(BEGIN):
                spans[-1].end = word.end
                spans[-1].scores.append(score)
            elif name != OUTSIDE:
                spans.append(_Span(label, word.start, word.end, [score]))
            before = label
        return spans

    def _name(self, index: int) -> str:
        return self._labels[index] if self._labels else str(index)

    def condensed(self, outputs: Feeds, feeds: Feeds) -> Feeds:
        """With NaN where the mask says padding."""
        mask, scores = feeds.get(MASK), outputs.get(OUTPUT)
        if mask is None or scores is None or scores.shape[:2] != mask[: len(scores)].shape:
            return dict(outputs)
        kept = np.where(mask[: len(scores), :, np.newaxis] != 0, scores, np.nan)
        return {**outputs, OUTPUT: kept.astype(scores.dtype)}

    def score(self, batches: Iterable[Scored]) -> Quality:
        """The share of tokens with the origin's label, averaged over the texts.

        Padding does not count. The interval counts texts, since the tokens of one hang together.
        The lower end is 0 where the origin gives all tokens one label.
        """
        agreed, n, tokens, seen = 0.0, 0, 0, set()
        for batch in batches:
            theirs = batch.reference[OUTPUT]
            mine = batch.outputs.get(OUTPUT, np.empty(0))
            mine = mine if mine.shape == theirs.shape else np.full_like(theirs, np.nan)
            for a, r in zip(mine, theirs, strict=True):
                real = ~np.isnan(r).any(axis=1)
                wanted = r[real].argmax(axis=1)
                right = (a[real].argmax(axis=1) == wanted) & ~np.isnan(a[real]).any(axis=1)
                seen.update(wanted.tolist())
                agreed, n, tokens = agreed + float(right.mean()), n + 1, tokens + len(wanted)
        if not n:
            raise SamplesError("there are no texts to score with", "at least 2")
        metric, low = f"top-1 agreement per token ({tokens} tokens)", wilson_lower(agreed, n)
        if len(seen) < 2:
            low = min(low, 0.0)
            metric += f", which proves nothing: the origin says {self._name(min(seen))} for all"
        return Quality(agreed / n, low, n, metric)

    def needed(self, floor: float) -> int | None:
        return needed_for_proportion(floor)


def _scores(signature: Signature) -> TensorSpec | None:
    for spec in signature.outputs:
        if spec.name == OUTPUT and spec.shape is not None and len(spec.shape) == 3:
            labels = spec.shape[2]
            if spec.dtype.startswith(("float", "bfloat")) and (
                isinstance(labels, str) or labels >= 2
            ):
                return spec
    return None
