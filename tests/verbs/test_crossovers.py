"""Where one overtakes another: at the first size that proves it, and ties are not it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from onnxpress.errors import InputError
from onnxpress.verbs.benched import verdict
from onnxpress.verbs.crossovers import crossovers
from onnxpress.verbs.growth import Growth
from onnxpress.verbs.measured import Latency, Measured, Row, compare
from onnxpress.verbs.sweep import Point, Sweep

NOISE = (1.0, 1.02, 0.98, 1.01, 0.99, 1.0, 1.03, 0.97)


def found(
    batch: int, times: Mapping[str, float], length: int | None = None, peak: int = 0
) -> Measured:
    """Rounds whose medians are these times in ms, with a noise of 2 % that is not shared."""
    rounds = {
        name: tuple(time * NOISE[(i + shift) % 8] for i in range(8))
        for shift, (name, time) in enumerate(times.items())
    }
    first = next(iter(times))
    rows = []
    for name, time in times.items():
        latency = Latency(time, 0, time, time, time, time)
        speedup = compare(rounds[name], rounds[first], 0)
        rows.append(
            Row(name, "", "", "", batch, latency, 1e3 * batch / time, 1, peak, 1,
                speedup=speedup, tie=speedup.tie, length=length)
        )  # fmt: skip
    return Measured({}, first, tuple(rows), 8, None, round_ms=rounds)


def test_the_first_size_that_proves_it() -> None:
    results = [
        found(1, {"a": 1.0, "b": 2.0}),
        found(4, {"a": 3.0, "b": 3.0}),
        found(8, {"a": 6.0, "b": 4.0}),
        found(32, {"a": 24.0, "b": 16.0}),
    ]
    (turn,) = crossovers(results)
    assert turn.to_dict() == {
        "axis": "batch",
        "faster": "b",
        "slower": "a",
        "at": 8,
        "text": "from batch 8 on, b is faster than a (a tie at 4)",
    }
    assert crossovers(results[::-1]) == (turn,)
    assert verdict(results) == (
        "b is the fastest at batch 8, 32: 1.50× the speed of a; "
        "nothing is proved faster at batch 1, 4"
    )


def test_ties_behind_it_are_told_as_well() -> None:
    (turn,) = crossovers(
        [found(1, {"a": 1, "b": 2}), found(8, {"a": 2, "b": 1}), found(32, {"a": 4, "b": 4})]
    )
    assert turn.text == "from batch 8 on, b is faster than a (a tie at 32)"


def test_ties_are_no_crossovers() -> None:
    assert crossovers([found(1, {"a": 1.0, "b": 1.0}), found(8, {"a": 6.0, "b": 4.0})]) == ()
    assert crossovers([found(1, {"a": 1.0, "b": 2.0}), found(8, {"a": 4.0, "b": 4.0})]) == ()
    assert crossovers([found(1, {"a": 1.0, "b": 2.0})]) == ()


def test_there_and_back_again() -> None:
    first, second = crossovers(
        [found(1, {"a": 1, "b": 2}), found(2, {"a": 2, "b": 1}), found(4, {"a": 1, "b": 2})]
    )
    assert first.text == "from batch 2 to below 4, b is faster than a"
    assert second.text == "from batch 4 on, a is faster than b"


def test_along_lengths_and_batches_with_what_is_fixed() -> None:
    """At batch 1 they cross between 16 and 64 tokens, at batch 8 they do not."""
    results = [
        found(1, {"a": 1, "b": 2}, 16),
        found(1, {"a": 4, "b": 2}, 64),
        found(8, {"a": 2, "b": 1}, 16),
        found(8, {"a": 4, "b": 2}, 64),
    ]
    assert [each.text for each in crossovers(results)] == [
        "from batch 8 on with 16 tokens, b is faster than a",
        "from length 64 on at batch 1, b is faster than a",
    ]


def test_who_failed_at_a_size_is_left_out_there() -> None:
    results = [found(1, {"a": 1, "b": 2}), found(2, {"a": 1}), found(4, {"a": 2, "b": 1})]
    (turn,) = crossovers(results)
    assert turn.at == 4


def test_verdicts() -> None:
    assert verdict([found(1, {"a": 2.0, "b": 1.0})]).startswith("b is the fastest: 2.00× (1.9")
    assert verdict([found(1, {"a": 1.0, "b": 1.0})]).startswith("a tie: the rounds do not tell b")
    assert verdict([found(1, {"a": 1.0, "b": 2.0})]).startswith("nothing is faster than a; next")
    assert verdict([found(1, {"a": 1.0})]) == "nothing was compared with a"
    both = [found(1, {"a": 2.0, "b": 1.0}), found(8, {"a": 9.0, "b": 3.0})]
    assert verdict(both) == "b is the fastest at every size: 2.00–3.00× the speed of a"
    both = [found(1, {"a": 1.0, "b": 2.0}), found(8, {"a": 3.0, "b": 9.0})]
    assert verdict(both) == "nothing is faster than a at any size"


def test_points_are_each_batch_with_each_length() -> None:
    assert Sweep([1, 8, 1]).points(None) == [Point(1), Point(8)]
    assert Sweep([1, 8], [16]).points(None) == [Point(1, 16), Point(8, 16)]
    for batches, lengths, said in (([0], [], "--batch 0"), ([1], [0], "--length 0")):
        with pytest.raises(InputError, match=said):
            Sweep(batches, lengths)


def test_models_of_one_batch_are_timed_at_it() -> None:
    assert Sweep().points(None) == [Point(1)]
    assert Sweep(lengths=[16]).points(4) == [Point(4, 16)]
    assert Sweep([4]).points(4) == [Point(4)]
    with pytest.raises(InputError, match="--batch 8; expected 4: the model takes no other"):
        Sweep([4, 8]).points(4)


def test_a_sweep_ends_before_memory_does() -> None:
    """1 MB a row of 100 MB: 80 rows fit, 160 do not."""
    growth = Growth(100 << 20)
    for batch in (1, 8):
        assert growth.refusal(Point(1000)) == ""
        growth.add(Point(batch), found(batch, {"a": 1.0}, peak=batch << 20))
    assert growth.refusal(Point(80)) == ""
    why = growth.refusal(Point(160))
    assert why.startswith("batch 160 would take about 0.168 GB of the 0.105 GB of this machine")
    assert why.endswith("as memory grew from batch 1 to batch 8; it was not timed")
