"""What became of each node, pass by pass, as a journal tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from onnxpress.model import Entry


@dataclass(eq=False)
class _Lot:
    """Nodes of the first model that became nodes of the last one together, and by which passes."""

    origins: dict[str, None] = field(default_factory=dict)
    passes: dict[str, None] = field(default_factory=dict)


class History:
    """Follows the nodes called ``names`` through ``steps``.

    ``merged`` has the names of the nodes that became others: before and after. A pass that makes
    of several nodes one, of which a later pass makes another, is one step of the same way.
    """

    def __init__(self, names: Iterable[str], steps: Sequence[Entry]) -> None:
        self._lots: dict[str, _Lot] = {}
        self._lost: dict[str, tuple[str, ...]] = {}
        self._names = dict.fromkeys(names)
        for entry in steps:
            for group in entry.nodes:
                self._step(entry.step, group.gone, group.made)

    @property
    def merged(self) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        made: dict[_Lot, list[str]] = {}
        for name, lot in self._lots.items():
            made.setdefault(lot, []).append(name)
        for lot, names in made.items():
            if lot.origins:
                yield tuple(lot.origins), tuple(names)

    @property
    def untouched(self) -> tuple[str, ...]:
        """The nodes that no step took away or made anew; none where no step tells of nodes."""
        return tuple(self._names) if self._lots or self._lost else ()

    def lost(self, name: str) -> tuple[str, ...]:
        """The passes that took the node of the first model away; empty where it is not known."""
        if name in self._lost:
            return self._lost[name]
        lots = (lot for lot in self._lots.values() if name in lot.origins)
        return tuple(next(lots, _Lot()).passes)

    def made(self, name: str) -> tuple[str, ...]:
        """The passes that made the node of the last model; empty where it is not known."""
        return tuple(self._lots[name].passes) if name in self._lots else ()

    def passes(self, before: Iterable[str], after: Iterable[str]) -> tuple[str, ...]:
        """Those that made ``after``, or else those that took ``before`` away."""
        made = dict.fromkeys(step for name in after for step in self.made(name))
        return tuple(made or dict.fromkeys(step for name in before for step in self.lost(name)))

    def _step(self, step: str, gone: Sequence[str], made: Sequence[str]) -> None:
        lots = dict.fromkeys(lot for name in gone if (lot := self._take(name)))
        if not made:
            for lot in lots:
                for name in lot.origins:
                    self._lost.setdefault(name, (*lot.passes, step))
            return
        lot = _Lot()
        for old in lots:
            lot.origins |= old.origins
            lot.passes |= old.passes
        lot.passes[step] = None
        self._lots |= {name: lot for name, old in self._lots.items() if old in lots}
        self._lots |= dict.fromkeys(made, lot)
        for name in made:
            self._names.pop(name, None)

    def _take(self, name: str) -> _Lot | None:
        if name in self._lots:
            return self._lots.pop(name)
        if name in self._names:
            del self._names[name]
            return _Lot({name: None})
        return None
