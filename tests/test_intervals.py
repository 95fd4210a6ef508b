"""Intervals against published values, SciPy and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.intervals import (
    Z,
    jackknife_lower,
    needed_for_proportion,
    paired_difference_lower,
    ratio_interval,
    t_quantile,
    wilson_lower,
)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (81, 263), (15, 148), (0, 20), (1, 29)])
def test_wilson_lower_is_scipys(k: int, n: int) -> None:
    interval = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_lower(k, n) == pytest.approx(interval.low, abs=1e-12)


def test_wilson_lower_of_newcombes_examples() -> None:
    """Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I."""
    assert [round(wilson_lower(k, n), 4) for k, n in [(81, 263), (15, 148), (0, 20), (1, 29)]] == [
        0.2553,
        0.0624,
        0.0,
        0.0061,
    ]


def test_wilson_lower_without_trials_proves_nothing() -> None:
    assert wilson_lower(0, 0) == 0


@given(st.floats(0.001, 0.9999))
def test_needed_for_proportion_is_the_fewest(floor: float) -> None:
    n = needed_for_proportion(floor)
    assert n is not None
    assert wilson_lower(n, n) >= floor
    assert n == 1 or wilson_lower(n - 1, n - 1) < floor


@pytest.mark.parametrize(("floor", "n"), [(-1, 1), (0, 1), (0.9, 35), (0.99, 381), (1, None)])
def test_needed_for_proportion_at_the_ends(floor: float, n: int | None) -> None:
    assert needed_for_proportion(floor) == n


@pytest.mark.parametrize(
    ("gained", "lost", "n", "low"),
    [
        (1, 7, 21, -0.517),  # Fagerland, Lydersen and Laake (2014), airway reactivity: Tango's
        (7, 1, 21, 0.026),  # interval is (-0.517, -0.026)
        (20, 60, 1000, -0.0584),  # PropCIs::scoreci.mp(60, 20, 1000)
        (60, 20, 1000, 0.0231),
    ],
)
def test_paired_difference_lower_of_published_examples(
    gained: int, lost: int, n: int, low: float
) -> None:
    digits = len(str(low).partition(".")[2])
    assert round(paired_difference_lower(gained, lost, n), digits) == low


@pytest.mark.parametrize("n", [1, 7, 100, 10_000])
def test_paired_difference_lower_without_discordant_pairs(n: int) -> None:
    assert paired_difference_lower(0, 0, n) == pytest.approx(-Z * Z / (n + Z * Z), abs=1e-12)


def test_paired_difference_lower_at_the_edges() -> None:
    assert paired_difference_lower(0, 0, 0) == -1
    assert paired_difference_lower(0, 9, 9) == -1
    assert 0 < paired_difference_lower(9, 0, 9) < 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_paired_difference_lower_is_below_and_monotone(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same
    low = paired_difference_lower(gained, lost, n)
    assert -1 <= low <= (gained - lost) / max(n, 1) or n == 0
    if same:
        assert paired_difference_lower(gained, lost + 1, n) <= low + 1e-12
        assert paired_difference_lower(gained + 1, lost, n) >= low - 1e-12


@pytest.mark.parametrize(
    ("n", "gain", "loss"), [(50, 0.02, 0.06), (200, 0.01, 0.03), (100, 0, 0.02)]
)
def test_paired_difference_lower_covers(n: int, gain: float, loss: float) -> None:
    """97.5 % of one-sided ends lie below the true difference, within what Tango reports."""
    draws = np.random.default_rng(0).multinomial(n, [gain, loss, 1 - gain - loss], size=4000)
    ends = {
        (g, lo): paired_difference_lower(g, lo, n)
        for g, lo in {(g, lo) for g, lo, _ in draws.tolist()}
    }
    covered = np.mean([ends[g, lo] <= gain - loss for g, lo, _ in draws.tolist()])
    assert covered >= 0.965


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 7, 19, 30, 999, 1000])
def test_t_quantile_is_scipys(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), abs=1e-9)


def test_t_quantile_stays_above_the_normal_one() -> None:
    assert Z < t_quantile(10**9) < Z + 0.003


def test_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    sums = np.stack([np.ones(12), values], axis=1)
    low = jackknife_lower(sums, lambda total: float(total[1] / total[0]))
    expected = scipy.stats.t.interval(0.95, 11, values.mean(), scipy.stats.sem(values))[0]
    assert low == pytest.approx(expected)


def test_ratio_interval_of_equal_rounds_is_exact() -> None:
    rounds = np.random.default_rng(0).uniform(1, 2, 20)
    assert ratio_interval(rounds, rounds, 0) == (1, 1, 1)
    assert ratio_interval(3 * rounds, rounds, 0) == pytest.approx((3, 3, 3))


def test_ratio_interval_is_seeded_and_takes_lists() -> None:
    a, b = [1.0, 2.0, 1.5, 1.2, 1.5], [1.1, 1.0, 1.3, 0.9, 1.0]
    assert ratio_interval(a, b, 7) == ratio_interval(np.array(a), np.array(b), 7)
    value, low, high = ratio_interval(a, b, 7)
    assert value == pytest.approx(1.35)
    assert low < value < high


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_ratio_interval_of_few_rounds_proves_nothing(rounds: int) -> None:
    assert ratio_interval([2.0] * rounds, [1.0] * rounds, 0) == (2, 0, math.inf)


def test_ratio_interval_of_a_clock_that_stands_still() -> None:
    assert ratio_interval([0.0] * 9, [0.0] * 9, 0) == (math.inf, 0, math.inf)
    assert ratio_interval([1.0] * 9, [0.0] * 9, 0) == (math.inf, 0, math.inf)
    assert ratio_interval([1.0] * 5, [0.0, 0.0, 1.0, 1.0, 1.0], 0) == (1, 0, math.inf)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_ratio_interval_refuses_what_is_not_paired(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="not paired"):
        ratio_interval(a, b, 0)


def test_ratio_interval_is_not_moved_by_stalls() -> None:
    """Not even where most rounds stall: few calls fit into them."""
    rounds = np.random.default_rng(0).uniform(1, 1.1, 20)
    stalled = rounds.copy()
    stalled[:12] *= 1000
    value, low, high = ratio_interval(2 * stalled, rounds, 0)
    assert value == pytest.approx(2, rel=0.05)
    assert 1.8 < low < high < 2.2


@pytest.mark.parametrize("rounds", [5, 10, 50])
def test_ratio_interval_covers(rounds: int) -> None:
    """The true ratio is inside 95 % of the time or more often, even with few skewed rounds."""
    random = np.random.default_rng(rounds)
    inside = 0
    for seed in range(400):
        shared = random.lognormal(0, 0.2, rounds)
        a, b = (
            2 * shared * random.lognormal(0, 0.1, rounds),
            shared * random.lognormal(0, 0.1, rounds),
        )
        _, low, high = ratio_interval(a, b, seed)
        inside += low <= 2 <= high
    assert inside / 400 >= 0.91
