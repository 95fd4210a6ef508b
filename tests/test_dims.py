"""Sizes that are known only when a model runs are computed with as numbers are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.dims import (
    Dim,
    Size,
    at_most,
    divide,
    floor_divide,
    maximum,
    minimum,
    never_equal,
    product,
)

A, B = Dim.named("a"), Dim.named("b")


def sizes() -> st.SearchStrategy[Size]:
    leaves: st.SearchStrategy[Size] = st.one_of(st.integers(-3, 6), st.sampled_from([A, B]))
    pairs = lambda inner: st.tuples(st.sampled_from("+-*"), inner, inner).map(_combined)  # noqa: E731
    return st.recursive(leaves, pairs, max_leaves=6)


def _combined(parts: tuple[str, Size, Size]) -> Size:
    sign, one, two = parts
    return one + two if sign == "+" else one - two if sign == "-" else one * two


def value(size: Size, a: int, b: int) -> int:
    if isinstance(size, int):
        return size
    known = {"a": a, "b": b}
    total = 0
    for monomial, factor in size.terms.items():
        total += factor * math.prod(known[symbol.name] for symbol in monomial)
    return total


@given(sizes(), sizes(), st.integers(1, 9), st.integers(1, 9))
def test_arithmetic_is_that_of_numbers(one: Size, two: Size, a: int, b: int) -> None:
    x, y = value(one, a, b), value(two, a, b)
    assert value(one + two, a, b) == x + y
    assert value(one - two, a, b) == x - y
    assert value(one * two, a, b) == x * y
    assert (one == two) == (one - two == 0)
    if one == two:
        assert hash(one) == hash(two)
    if at_most(one, two):
        assert x <= y
    if never_equal(one, two):
        assert x != y


@given(sizes(), sizes(), st.integers(1, 9), st.integers(1, 9))
def test_division_is_exact_or_none(one: Size, two: Size, a: int, b: int) -> None:
    quotient = divide(one, two)
    assert quotient is None or quotient * two == one
    if two != 0:
        assert divide(one * two, two) == one
    if isinstance(one, int) and isinstance(two, int) and two:
        assert floor_divide(one, two) == one // two


def test_what_is_no_polynomial_is_a_symbol_of_its_own() -> None:
    half = floor_divide(A, 2)
    assert half == floor_divide(A, 2) != floor_divide(B, 2)
    assert floor_divide(A * 4 + 2, 2) == A * 2 + 1
    assert str(half) == "(a)//(2)"


def test_extremes() -> None:
    few = minimum(512, A)
    assert few == minimum(A, 512)
    assert minimum(A, few) == few
    assert maximum(A, few) == A
    assert maximum(A, A + 1) == A + 1
    assert minimum(3, 4) == 3
    assert at_most(few, 512)
    assert not at_most(A, few)


def test_signs() -> None:
    assert never_equal(A, -1)
    assert never_equal(A + 1, 0)
    assert not never_equal(A, 0)
    assert not never_equal(A, B)
    assert product([]) == 1
    assert product([A, 2, B]) == A * B * 2


@pytest.mark.parametrize("by", [0, A - A])
def test_nothing_is_divided_by_zero(by: Size) -> None:
    assert divide(A, by) is None
