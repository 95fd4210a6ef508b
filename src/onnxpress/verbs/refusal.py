"""What is not worth timing: candidates that answer wrongly, however fast they are."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from onnxpress.signature import Feeds
from onnxpress.task import Quality
from onnxpress.verbs.score import RANDOM

PLAINLY_WRONG = 0.5
"""Less of the baseline's quality than this is another model, not a less exact one."""


class Seen:
    """What is seen of the outputs while they are scored.

    ``broken`` tells by candidate's name of the first output with NaN or infinities where the
    baseline has numbers. Some metrics do not see them: the largest of a row of NaN is the first.
    ``row_bytes`` is what the outputs of one record take at most.
    """

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self.row_bytes = 0

    def watch(self, name: str, outputs: Feeds, reference: Feeds) -> None:
        """One batch of a candidate's outputs, and the baseline's on the same feeds."""
        self.row_bytes = max(
            self.row_bytes,
            sum(array.nbytes // max(1, len(array)) for array in outputs.values() if array.ndim),
        )
        for output, array in outputs.items():
            expected = reference.get(output)
            if name in self.broken or array.dtype.kind != "f" or expected is None:
                continue
            if array.shape == expected.shape and expected.dtype.kind == "f":
                broken = int((~np.isfinite(array) & np.isfinite(expected)).sum())
                if broken:
                    self.broken[name] = (
                        f"'{output}' has {broken:,} NaN or infinite values of {array.size:,} where "
                        "the baseline has numbers"
                    )


def refusals(
    qualities: Mapping[str, Quality],
    broken: Mapping[str, str],
    baseline: str,
    min_quality: float | None,
    *,
    random: bool,
) -> dict[str, str]:
    """By name, why a candidate is not timed.

    Its quality is below ``min_quality`` at the lower end of its interval or, without one, below
    ``PLAINLY_WRONG``; or it is ``broken``, as ``Seen.broken`` says. ``random``: scored on
    made-up samples, which is told.
    """
    found = {}
    for name, quality in qualities.items():
        if name == baseline:
            continue
        told = f"quality {quality.value:.3f} ({quality.metric}, n={quality.n})"
        below = quality.low if min_quality is not None else quality.value
        least = PLAINLY_WRONG if min_quality is None else min_quality
        if name in broken:
            why = f"its outputs are wrong: {broken[name]}"
        elif min_quality is None and not (math.isfinite(below) and below >= least):
            why = f"its outputs are wrong: {told}"
        elif min_quality is not None and not below >= least:
            why = f"its {told} is {below:.4f} at worst, below {least:g}"
        else:
            continue
        found[name] = f"{why}; it was not timed" + (f"; {RANDOM}" if random else "")
    return found
