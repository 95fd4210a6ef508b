"""Where the model came from: exporter, verification, and what every pass did."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass

from onnxpress.report.facts import Fact
from onnxpress.report.format import MISSING, difference, text
from onnxpress.report.rows import mapping, sequence

SHOWN_REFUSALS = 6


@dataclass(frozen=True)
class Step:
    """One pass of the journal; equal refusals are counted, ``hidden`` more are in the JSON."""

    name: str
    rewrites: str
    refusals: tuple[str, ...]
    hidden: int


def conversion(result: Mapping[str, object]) -> tuple[Fact, ...]:
    """Which exporter made the model and whether its answers are the origin's."""
    raw = mapping(result.get("conversion"))
    verified = mapping(raw.get("verified"))
    if not raw:
        return ()
    worst = f"largest difference {difference(verified.get('max_abs_diff'))} absolute"
    worst += f", {difference(verified.get('max_rel_diff'))} relative"
    allowed = f"allowed: rtol {difference(verified.get('rtol'))}"
    allowed += f", atol {difference(verified.get('atol'))}"
    answers = {True: "same answers as the origin", False: "differs from the origin"}
    answer = MISSING if verified.get("ok") is None else answers[verified["ok"] is True]
    facts = [
        Fact("Exporter", text(raw.get("exporter"))),
        Fact("Opset", text(raw.get("opset"))),
        Fact("Verified", answer, f"{worst}; {allowed}" if verified else ""),
    ]
    if raw.get("fallback_reason"):
        facts.insert(1, Fact("Fallback because", text(raw["fallback_reason"])))
    if verified.get("first_mismatch"):
        facts.append(Fact("First mismatch", _mismatch(verified["first_mismatch"])))
    return tuple(facts)


def cases(result: Mapping[str, object]) -> tuple[tuple[str, str, str], ...]:
    """The verification cases: shapes, largest difference, ``ok`` or ``differs``."""
    raw = sequence(mapping(mapping(result.get("conversion")).get("verified")).get("cases"))
    answers = {True: "ok", False: "differs"}
    return tuple(
        (
            _shapes(case.get("shapes")),
            difference(case.get("max_abs_diff")),
            MISSING if case.get("ok") is None else answers[case["ok"] is True],
        )
        for case in map(mapping, raw)
    )


def journal(result: Mapping[str, object]) -> tuple[Step, ...]:
    """What every pass did and why it left the rest."""
    steps = []
    for raw in map(mapping, sequence(result.get("journal"))):
        reasons = collections.Counter(map(_refusal, sequence(raw.get("refusals"))))
        lines = [why if times == 1 else f"{why} ({times}×)" for why, times in reasons.items()]
        hidden = len(lines) - SHOWN_REFUSALS if len(lines) > SHOWN_REFUSALS + 1 else 0
        shown = tuple(lines[: len(lines) - hidden])
        steps.append(Step(text(raw.get("step"), 80), text(raw.get("rewrites")), shown, hidden))
    return tuple(steps)


def _refusal(value: object) -> str:
    raw = mapping(value)
    why = raw.get("why") or raw.get("reason")
    if not why:
        return text(value)
    where = raw.get("node") or raw.get("where") or raw.get("name")
    return f"{text(where)}: {text(why)}" if where else text(why)


def _mismatch(value: object) -> str:
    """Where the two first differ, by how much and on which shapes."""
    raw = mapping(value)
    if "output" not in raw:
        return text(value)
    line = f"output {text(raw['output'])} at {text(raw.get('index'))}: "
    line += f"{text(raw.get('a'))} against {text(raw.get('b'))}"
    shapes = f" on {_shapes(raw['shapes'])}" if raw.get("shapes") else ""
    return line + shapes + (f"; it {text(raw['why'])}" if raw.get("why") else "")


def _shapes(value: object) -> str:
    """``x 1×3×224×224`` for ``{"x": [1, 3, 224, 224]}``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{text(name)} {_shapes(each)}" for name, each in value.items())
    dims = [] if isinstance(value, str) else sequence(value)
    if dims and all(isinstance(each, int) for each in dims):
        return "×".join(str(each) for each in dims)
    return ", ".join(map(_shapes, dims)) if dims else text(value)
