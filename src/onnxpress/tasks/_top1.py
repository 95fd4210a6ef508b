"""Counts of right classes, and the quality that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.intervals import paired_difference_lower
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

    def add(self, mine: int, theirs: int, truth: int) -> None:
        right, wanted = truth >= 0 and mine == truth, truth >= 0 and theirs == truth
        self.first = truth if self.first is None else self.first
        self.n, self.varies = self.n + 1, self.varies or truth != self.first
        self.candidate, self.reference = self.candidate + right, self.reference + wanted
        self.gained, self.lost = self.gained + (right > wanted), self.lost + (wanted > right)


def accuracy(tally: Tally) -> Quality:
    refuse_one_class(tally, "the labels say")
    origin, candidate = tally.reference / tally.n, tally.candidate / tally.n
    lower = paired_difference_lower(tally.gained, tally.lost, tally.n)
    return Quality(
        tally.candidate / tally.reference,
        1 + lower / origin,
        tally.n,
        "accuracy / origin's accuracy",
        origin,
        candidate,
    )


def refuse_one_class(tally: Tally, who: str) -> None:
    if not tally.varies:
        said = f"class {tally.first}" if tally.first != -1 else "NaN"
        raise SamplesError(
            f"{who} {said} for all {tally.n} samples",
            "samples of at least 2 classes, or a model that always says one would pass",
            "give other --samples",
        )


def top1(scores: np.ndarray | None, rows: int) -> list[int]:
    """The best class of each row, -1 where it holds NaN or there is no such output."""
    if scores is None or scores.ndim != 2 or len(scores) != rows:
        return [-1] * rows
    broken = np.isnan(scores).any(axis=1)
    best: list[int] = np.where(broken, -1, scores.argmax(axis=1)).tolist()
    return best
