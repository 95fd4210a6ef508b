"""Sizes that are known only when a model runs, as polynomials of its free dimensions.

``sequence * 2 + 1`` is a ``Dim``; a size is an ``int`` or a ``Dim``, and arithmetic gives an
``int`` wherever the free dimensions cancel out. Two sizes are equal if their polynomials are.
What is no polynomial (``n // 2``, ``min(512, n)``) is a symbol of its own that is called so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Monomial = tuple["Symbol", ...]
"""Symbols in the order of their names, each as often as its power; the constant's is empty."""


@dataclass(frozen=True, eq=False)
class Symbol:
    """A free dimension or what is computed of some; never negative.

    It is at most as large as each of ``bounds``.
    """

    name: str
    bounds: tuple[int | Dim, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __lt__(self, other: Symbol) -> bool:
        return self.name < other.name


class Dim:
    """A polynomial with whole coefficients that is no constant. Immutable."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = dict(sorted(terms.items(), key=lambda item: (-len(item[0]), item[0])))
        self._hash = hash(tuple(self.terms.items()))

    @classmethod
    def named(cls, name: str, bounds: Iterable[int | Dim] = ()) -> Dim:
        return cls({(Symbol(name, tuple(bounds)),): 1})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: int | Dim) -> int | Dim:
        total = Counter(self.terms)
        for monomial, factor in _terms(other).items():
            total[monomial] += factor
        return _size(total)

    def __mul__(self, other: int | Dim) -> int | Dim:
        total: Counter[Monomial] = Counter()
        for one, factor in self.terms.items():
            for two, by in _terms(other).items():
                total[tuple(sorted(one + two))] += factor * by
        return _size(total)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> int | Dim:
        return self * -1

    def __sub__(self, other: int | Dim) -> int | Dim:
        return self + other * -1

    def __rsub__(self, other: int) -> int | Dim:
        return self * -1 + other

    @property
    def is_positive(self) -> bool:
        """Whether no term is negative, so that the size is not."""
        return all(factor > 0 for factor in self.terms.values())

    @property
    def symbol(self) -> Symbol | None:
        """The symbol that it is, where it is nothing else."""
        ((monomial, factor), *others) = self.terms.items()
        return monomial[0] if not others and factor == 1 and len(monomial) == 1 else None

    def __str__(self) -> str:
        parts = []
        for monomial, factor in self.terms.items():
            names = [symbol.name for symbol in monomial]
            parts.append("*".join([str(factor), *names] if factor != 1 or not names else names))
        return " + ".join(parts)

    __repr__ = __str__


Size: TypeAlias = int | Dim


def divide(a: Size, b: Size) -> Size | None:
    """``a / b`` where that is exact for every size of the free dimensions, otherwise None."""
    (under, by), *_ = Dim(_terms(b)).terms.items() if b != 0 else [((), 0)]
    if by == 0:
        return None
    quotient: Size = 0
    while a != 0:  # each round ends the leading term of what is left
        (monomial, factor), *_ = Dim(_terms(a)).terms.items()
        rest = Counter(monomial)
        rest.subtract(under)
        if factor % by or min(rest.values(), default=0) < 0:
            return None
        term = _size({tuple(sorted(rest.elements())): factor // by})
        quotient, a = quotient + term, a - b * term
    return quotient


def floor_divide(a: Size, b: Size) -> Size:
    """``a // b``; what is no polynomial gets a symbol of its own."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    exact = divide(a, b)
    return Dim.named(f"({a})//({b})", (a,)) if exact is None else exact


def at_most(a: Size, b: Size) -> bool:
    """Whether ``a ≤ b`` is sure."""
    if isinstance(a, Dim) and a.symbol is not None and any(at_most(x, b) for x in a.symbol.bounds):
        return True
    difference = b - a
    return difference >= 0 if isinstance(difference, int) else difference.is_positive


def minimum(*sizes: Size) -> Size:
    """The least of them, which may be any of several."""
    return _extreme("min", sizes, at_most)


def maximum(*sizes: Size) -> Size:
    """The largest of them, which may be any of several."""
    return _extreme("max", sizes, lambda a, b: at_most(b, a))


def product(sizes: Iterable[Size]) -> Size:
    """Of none it is 1."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def never_equal(a: Size, b: Size) -> bool:
    """Whether no size of the free dimensions makes them equal."""
    difference = a - b
    if isinstance(difference, int):
        return difference != 0
    either = (difference, -difference)
    return any(
        isinstance(one, Dim) and one.is_positive and one.terms.get((), 0) > 0 for one in either
    )


def _extreme(name: str, sizes: Iterable[Size], beats: Callable[..., bool]) -> Size:
    left: list[Size] = []
    for size in dict.fromkeys(sizes):
        if any(beats(other, size) for other in left):
            continue
        left = [other for other in left if not beats(size, other)] + [size]
    if len(left) == 1:
        return left[0]
    text = ", ".join(sorted(map(str, left)))
    return Dim.named(f"{name}({text})", left if name == "min" else ())


def _terms(size: Size) -> Mapping[Monomial, int]:
    return size.terms if isinstance(size, Dim) else {(): size}


def _size(terms: Mapping[Monomial, int]) -> Size:
    kept = {monomial: factor for monomial, factor in terms.items() if factor}
    return kept.get((), 0) if kept.keys() <= {()} else Dim(kept)
