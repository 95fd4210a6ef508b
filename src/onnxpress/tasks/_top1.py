"""Counts of right classes, and the quality that follows from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.intervals import paired_difference_lower, wilson_lower
from onnxpress.task import Quality


@dataclass
class Tally:
    """Of ``n`` rows, how many are right: the candidate's, the origin's, and only one of them."""

    n: int = 0
    candidate: int = 0
    reference: int = 0
    gained: int = 0
    lost: int = 0
    first: int | None = None
    varies: bool = False
    truths: Counter[int] = field(default_factory=Counter)

    def add(self, mine: int, theirs: int, truth: int) -> None:
        right, wanted = truth >= 0 and mine == truth, truth >= 0 and theirs == truth
        self.truths[truth] += 1
        self.first = truth if self.first is None else self.first
        self.n, self.varies = self.n + 1, self.varies or truth != self.first
        self.candidate, self.reference = self.candidate + right, self.reference + wanted
        self.gained, self.lost = self.gained + (right > wanted), self.lost + (wanted > right)

    @property
    def most_frequent(self) -> int:
        return max(self.truths.values(), default=0)

    def tells(self) -> bool:
        """Whether the origin is surely better than a constant, or the truth itself is one."""
        if not self.varies:
            return self.reference > 0
        return wilson_lower(self.reference, self.n) > self.most_frequent / self.n


def judged(agreed: Tally, labelled: Tally) -> Quality:
    """Accuracy over the origin's where the labels tell, otherwise agreement with the origin.

    ``agreed`` takes the origin's classes for the truth. Raises ``SamplesError`` without samples.
    """
    if not agreed.n:
        raise SamplesError("there are no samples to score with", "at least 2")
    if labelled.n and labelled.tells():
        return accuracy(labelled)
    metric = "top-1 agreement"
    if labelled.n:
        right, often = labelled.reference / labelled.n, labelled.most_frequent / labelled.n
        metric += (
            f" (the labels prove nothing: the origin gets {right:.1%} of them right, and one "
            f"class alone is {often:.1%})"
        )
    value, low = agreed.candidate / agreed.n, wilson_lower(agreed.candidate, agreed.n)
    quality = Quality(value, low, agreed.n, metric)
    return unproven_if_one_class(quality, agreed, "the origin says")


def accuracy(tally: Tally) -> Quality:
    origin, candidate = tally.reference / tally.n, tally.candidate / tally.n
    lower = paired_difference_lower(tally.gained, tally.lost, tally.n)
    quality = Quality(
        tally.candidate / tally.reference,
        1 + lower / origin,
        tally.n,
        "accuracy / origin's accuracy",
        origin,
        candidate,
    )
    return unproven_if_one_class(quality, tally, "the labels say")


def unproven_if_one_class(quality: Quality, tally: Tally, who: str) -> Quality:
    """With a lower end of 0 where all samples are of one class: a constant would pass as well."""
    if tally.varies:
        return quality
    said = f"class {tally.first}" if tally.first != -1 else "NaN"
    metric = f"{quality.metric}, which proves nothing: {who} {said} for all {tally.n} samples"
    return replace(quality, low=min(quality.low, 0.0), metric=metric)


def top1(scores: np.ndarray | None, rows: int) -> list[int]:
    """The best class of each row, -1 where it holds NaN or there is no such output."""
    if scores is None or scores.ndim != 2 or len(scores) != rows:
        return [-1] * rows
    broken = np.isnan(scores).any(axis=1)
    best: list[int] = np.where(broken, -1, scores.argmax(axis=1)).tolist()
    return best
