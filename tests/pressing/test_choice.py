"""The choice: quality first, then speed beyond the noise; and the order of a bundle's forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.engine import Form
from onnxpress.errors import SamplesError
from onnxpress.pressing.choice import (
    Floor,
    Trial,
    early_floor,
    fastest,
    floor_of,
    judge,
    most_exact,
    reason,
    verdict,
)
from onnxpress.pressing.press import _ordered
from onnxpress.pressing.result import Pressed
from onnxpress.pressing.trial import ORIGIN, Built
from onnxpress.processing import ImageProcessing, Processing
from onnxpress.settings import Settings
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Quality
from onnxpress.tasks.image_classification import ImageClassification
from onnxpress.verbs.measured import Latency, Measured, Ratio, Row

FLOOR = Floor(0.9)


def row(name: str, quality: Quality | None, speedup: Ratio | None, engine: str = "a") -> Row:
    latency = Latency(1.0, 0.1, 1.0, 1.2, 1.3, 1.0)
    return Row(name, engine, "float32", "float32", 1, latency, 1000.0, 1.0, 1, 1, quality, speedup)


def trial(
    name: str,
    low: float = 1.0,
    speed: tuple[float, float, float] | None = (2.0, 1.9, 2.1),
    engine: str = "onnxruntime",
) -> Trial:
    """As ``judge`` makes them: ``speed`` None is a form that failed to run."""
    form = Form(name, "", Settings(engine), "float32")
    quality = Quality(low, low, 100, "agreement")
    rows = (row(name, quality, Ratio(*speed), engine),) if speed else ()
    measured = Measured({}, ORIGIN, rows, 5, None, failures={} if speed else {name: "it broke"})
    (judged,) = judge([Built(form, Path("f.onnx"))], measured, FLOOR)
    return judged


def bound(classes: int = 10) -> Bound:
    """A classifier of images, which proves a floor as a proportion does."""
    signature = Signature(
        (TensorSpec("x", "float32", ("n", 3, 4, 4)),),
        (TensorSpec("y", "float32", ("n", classes)),),
    )
    return ImageClassification().bind(signature, Processing(ImageProcessing(size=(4, 4))))


class TestFastest:
    def test_the_fastest_of_those_that_hold_the_floor(self) -> None:
        trials = [
            trial("slow"),
            trial("quick", speed=(4, 3.8, 4.2)),
            trial("wrong", 0.2, (9, 8, 10)),
        ]
        chosen = fastest(trials)
        assert chosen is not None
        assert chosen.name == "quick"

    def test_a_wrong_model_is_never_chosen_however_fast(self) -> None:
        wrong = trial("wrong", 0.89999, (1000, 900, 1100))
        assert not wrong.ok
        assert "at worst 0.9000, is below the floor" in wrong.reason
        assert fastest([wrong]) is None

    def test_nan_holds_no_floor(self) -> None:
        assert fastest([trial("nan", float("nan"))]) is None

    def test_what_may_be_noise_beats_nothing(self) -> None:
        assert fastest([trial("lucky", speed=(5, 0.99, 60))]) is None
        assert fastest([trial("even", speed=(1, 1, 1))]) is None

    def test_what_failed_is_told(self) -> None:
        failed = trial("broken", speed=None)
        assert (failed.ok, failed.reason) == (False, "it broke")
        assert failed.to_dict()["latency_ms"] is None
        assert fastest([failed]) is None

    @given(
        st.lists(
            st.tuples(
                st.floats(-1, 1.2) | st.just(float("nan")),
                st.floats(0.1, 50),
                st.floats(0, 1),
                st.floats(1, 10),
            ),
            max_size=8,
        )
    )
    def test_always(self, drawn: list[tuple[float, float, float, float]]) -> None:
        trials = [
            trial(str(i), low, (value, value * below, value * above))
            for i, (low, value, below, above) in enumerate(drawn)
        ]
        fit = {
            each.name: each.row.speedup.value
            for each, (low, value, below, _) in zip(trials, drawn, strict=True)
            if low >= FLOOR.value and value * below > 1 and each.row and each.row.speedup
        }
        chosen = fastest(trials)
        assert (chosen is None) == (not fit)
        if chosen is not None:
            assert fit[chosen.name] == max(fit.values())
        told = verdict(chosen, trials, FLOOR, "the original", noisy=False)
        assert told.startswith("Nothing beats the original" if chosen is None else chosen.name)


class TestExact:
    """int8 that the rounds do not tell from float32 pays with quality for nothing."""

    def chosen(self, int8_ms: tuple[float, ...]) -> tuple[str, str]:
        in_float = trial("onnxruntime-float32", speed=(2.0, 1.9, 2.1))
        quick = replace(trial("onnxruntime-int8", speed=(2.1, 1.95, 2.2)), requested="int8")
        times = {in_float.name: (1.0, 1.1, 0.9, 1.0, 1.05, 0.95), quick.name: int8_ms}
        measured = Measured({}, ORIGIN, (), 6, None, failures={}, round_ms=times, seed=0)
        trials = [in_float, quick]
        best = most_exact(fastest(trials), trials, measured)
        assert best is not None
        return best.name, reason(best, trials, FLOOR, "the original", ["onnxruntime-int8"])

    def test_a_tie_goes_to_float32(self) -> None:
        name, why = self.chosen((1.1, 0.9, 1.0, 0.95, 0.9, 1.05))
        assert name == "onnxruntime-float32"
        assert "the fastest in float32 of those that beat the original" in why
        assert "do not tell it from onnxruntime-int8" in why

    def test_what_is_faster_beyond_the_noise_wins(self) -> None:
        assert self.chosen((0.5, 0.55, 0.45, 0.5, 0.52, 0.5))[0] == "onnxruntime-int8"


class TestOrder:
    def order(self, trials: list[Trial]) -> list[str]:
        chosen = fastest(trials)
        result = Pressed(
            "s", "t", "v", chosen.name if chosen else None, "r", FLOOR, "latency", 1, 1, 5, {},
            tuple(trials), {}, (), {}, {}, (),
        )  # fmt: skip
        return [each.name for each in _ordered(result, {each.name: each for each in trials})]

    def test_the_chosen_one_is_first_and_nothing_slower_follows(self) -> None:
        trials = [
            trial("onnxruntime-float32", speed=(2, 1.8, 2.2)),
            trial("lucky", speed=(9, 0.5, 40), engine="openvino"),
            trial("quick", speed=(3, 2.5, 3.5)),
        ]
        assert self.order(trials) == ["quick", "onnxruntime-float32"]

    def test_what_fell_below_the_floor_is_not_bundled(self) -> None:
        trials = [
            trial("onnxruntime-float32", 0.5),
            trial("openvino-float32", engine="openvino"),
            trial("quick-and-wrong", 0.1, (9, 8, 10)),
        ]
        assert self.order(trials) == ["openvino-float32"]

    def test_a_kept_float_form_runs_here(self) -> None:
        trials = [
            trial("onnxruntime-float32", speed=None),
            trial("openvino-float32", 0.3, engine="openvino"),
        ]
        assert self.order(trials) == ["openvino-float32"]


class TestFloor:
    def quality(self, low: float, n: int = 100, origin: float | None = None) -> Quality:
        return Quality(1.0, low, n, "agreement", origin, origin)

    def test_the_default_is_lowered_to_what_can_be_proven(self) -> None:
        assert floor_of(None, bound(), self.quality(0.995)) == Floor(0.99)
        lowered = floor_of(None, bound(), self.quality(0.95))
        assert lowered.value == 0.95
        assert "100 scoring samples can prove 0.9500 at most" in lowered.note
        assert "0.99 needs about 381" in lowered.note

    def test_a_wish_that_cannot_be_proven_says_how_many_it_takes(self) -> None:
        with pytest.raises(SamplesError, match=r"cannot be proven with 50 .* at least 381"):
            early_floor(0.99, bound(), 50)
        early_floor(0.99, bound(), 381)
        with pytest.raises(SamplesError, match=r"cannot be proven with 381 .* at least 572"):
            floor_of(0.99, bound(), self.quality(0.985, 381, 0.9))
        with pytest.raises(SamplesError, match="by any number of samples; expected a floor below"):
            early_floor(1.0, bound(), 10**9)

    def test_samples_that_prove_nothing(self) -> None:
        with pytest.raises(SamplesError, match=r"prove no quality .* 10.0% right.*labels' order"):
            floor_of(None, bound(), self.quality(-0.2, 50, 0.1))
        assert floor_of(0, bound(), self.quality(-0.2)) == Floor(0)
