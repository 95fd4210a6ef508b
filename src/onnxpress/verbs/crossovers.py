"""Where one candidate overtakes another as batches, or texts, get larger."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from onnxpress.verbs.measured import Measured
from onnxpress.verbs.sweep import Point


@dataclass(frozen=True)
class Crossover:
    """From ``at`` on along ``axis`` (``batch`` or ``length``), ``faster`` is so; before, not.

    ``text`` tells it in words, with what is fixed meanwhile and where the two tie.
    """

    axis: str
    faster: str
    slower: str
    at: int
    text: str

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


Paired = tuple[Point, Measured]


def crossovers(results: Sequence[Measured]) -> tuple[Crossover, ...]:
    """Of every two candidates, along batches at each length and along lengths at each batch.

    A side is taken where the interval of the paired rounds excludes 1; ties take none.
    """
    found: list[Crossover] = []
    measured = [
        (Point(each.rows[0].batch, each.rows[0].length), each) for each in results if each.rows
    ]
    for axis, fixed in (("batch", "length"), ("length", "batch")):
        for size in dict.fromkeys(getattr(point, fixed) for point, _ in measured):
            line = [pair for pair in measured if getattr(pair[0], fixed) == size]
            line = sorted(line, key=lambda pair: getattr(pair[0], axis) or 0)
            several = len({getattr(point, fixed) for point, _ in measured}) > 1
            where = _fixed(fixed, size) if several and size is not None else ""
            names = dict.fromkeys(name for _, each in line for name in each.round_ms)
            if len(line) > 1:
                for one, other in itertools.combinations(names, 2):
                    found += _along(axis, one, other, line, where)
    return tuple(found)


def _along(axis: str, one: str, other: str, line: Sequence[Paired], where: str) -> list[Crossover]:
    """Where the winner of two changes along ``line``, which is in order of ``axis``."""
    winners: list[tuple[int, str | None]] = []
    for point, each in line:
        if {one, other} <= each.round_ms.keys():
            ratio = each.compare(one, other)
            winners.append(
                (getattr(point, axis), None if ratio.tie else one if ratio.low > 1 else other)
            )
    proved = [(size, winner) for size, winner in winners if winner is not None]
    turns = [
        (before, size, winner)
        for (before, last), (size, winner) in itertools.pairwise(proved)
        if winner != last
    ]
    ends: list[int | None] = [size for _, size, _ in turns[1:]]
    found = []
    for (before, size, winner), end in zip(turns, [*ends, None], strict=False):
        loser = other if winner == one else one
        tied = [
            each
            for each, won in winners
            if won is None and before < each and (end is None or each < end)
        ]
        upto = "on" if end is None else f"to below {end}"
        tie = f" (a tie at {', '.join(map(str, tied))})" if tied else ""
        text = f"from {axis} {size} {upto}{where}, {winner} is faster than {loser}{tie}"
        found.append(Crossover(axis, winner, loser, size, text))
    return found


def _fixed(axis: str, size: int) -> str:
    return f" at batch {size}" if axis == "batch" else f" with {size} tokens"
