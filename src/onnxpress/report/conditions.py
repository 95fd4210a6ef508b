"""How the numbers were got: the work, the statistics, the machine and the versions."""

from __future__ import annotations

from collections.abc import Mapping

from onnxpress.report.facts import Fact, timestamp
from onnxpress.report.format import MISSING, number, quality, size, text
from onnxpress.report.rows import Rows, mapping

_NAMED = {
    *("machine", "versions", "python", "load_average", "loadavg", "time_utc", "timestamp"),
    "warmup",
}
_OTHERS = {"platform": "System", "cpu_mhz": "Clock, MHz", "governor": "Frequency governor"}


def conditions(result: Mapping[str, object], rows: Rows) -> tuple[Fact, ...]:
    """How the numbers were got: the work, the statistics, the machine, the versions."""
    environment = mapping(result.get("environment"))
    machine = mapping(environment.get("machine"))
    baseline = rows.baseline.name if rows.baseline else "a baseline that is not known"
    warm_up = result.get("warmup", environment.get("warmup"))
    load = environment.get("load_average", environment.get("loadavg"))
    batches = ", ".join(f"{batch:g}" for batch in rows.batches)
    floored = "floor" in result  # ``bench`` has none, nor one objective and number of threads
    facts = [
        *(Fact("Objective", text(each)) for each in _there(result, "objective")),
        Fact("Batch", text(result.get("batch") or batches)),
        *_timed(result),
        *_sweep(rows),
        *(Fact("Threads", text(each)) for each in _there(result, "threads")),
        Fact("Rounds", text(result.get("rounds"))),
        Fact("Warm-up", text(warm_up)),
        Fact(
            "Latency",
            f"{rows.statistic_name} of the calls; beside it their mean ± standard deviation",
        ),
        Fact(
            "Speed-up",
            f"how many times as fast as {baseline}, with its 95 % interval; “tie” "
            "where the interval holds 1",
        ),
        Fact(
            "Quality",
            "relative to the origin, which has 1; “≥” is the lower end of its 95 % "
            f"interval{', and the floor must hold there' if floored else ''}. {_metrics(rows)}",
        ),
        *(Fact("Floor", quality(rows.floor), _note(result.get("floor_note"))),) * floored,
        Fact("CPU", _cpu(machine)),
        Fact("Cores", _cores(machine)),
        Fact("Instruction sets", text(machine.get("isa"))),
        Fact("Memory", size(machine.get("memory_bytes"))),
        Fact("Load average", text(load)),
        Fact("Python", text(environment.get("python"))),
        Fact("Versions", text(environment.get("versions"))),
        Fact("Measured at", timestamp(result)),
    ]
    others = ((key, each) for key, each in environment.items() if key not in _NAMED)
    facts += [Fact(_OTHERS.get(key, text(key)), text(each)) for key, each in others]
    return tuple(facts)


def _there(result: Mapping[str, object], key: str) -> tuple[object, ...]:
    """The value, where the result has one of that name at all."""
    return (result[key],) if key in result else ()


def _timed(result: Mapping[str, object]) -> tuple[Fact, ...]:
    """What lies between the clock's start and end, where the result tells."""
    if "end_to_end" not in result:
        return ()
    if result["end_to_end"]:
        return (Fact("Timed", "from records to predictions, with pre- and post-processing"),)
    return (Fact("Timed", "the model alone: from tensors to tensors"),)


def _sweep(rows: Rows) -> tuple[Fact, ...]:
    """What is fixed and what stays open along a sweep."""
    if not rows.is_sweep:
        return ()
    tokens = "of exactly so many tokens, made of the samples' own: repeated or cut, no padding"
    lengths = f"{', '.join(f'{length:g}' for length in rows.lengths)} tokens"
    opened = (
        "the least work first, in processes that stay open from size to size: a peak of memory is "
        "that of a size and all smaller ones"
    )
    found = (Fact("Lengths", lengths, tokens),) if rows.lengths else ()
    return (*found, Fact("Sweep", opened))


def _metrics(rows: Rows) -> str:
    """The distinct metrics and sample counts of the candidates."""
    found: dict[str, None] = {}
    for row in rows.rows:
        if row.value is not None and not row.is_baseline:
            samples = number(row.quality.get("n"))
            known = "" if samples is None else f", n = {samples:,.0f}"
            found[text(row.quality.get("metric"), 60) + known] = None
    return f"Metric: {'; '.join(found)}" if found else "Not scored"


def _cpu(machine: Mapping[str, object]) -> str:
    architecture = text(machine.get("architecture"))
    known = "" if architecture == MISSING else f" ({architecture})"
    return text(machine.get("cpu")) + known


def _cores(machine: Mapping[str, object]) -> str:
    quota = number(machine.get("quota"))
    named = {"cores": "physical", "logical_cores": "logical", "affinity": "usable by the process"}
    parts = [f"{text(machine[key])} {name}" for key, name in named.items() if key in machine]
    if "quota" in machine:
        parts.append("no container quota" if quota is None else f"container quota {quota:g}")
    parts += [f"{text(machine['threads'])} compute threads"] if "threads" in machine else []
    return ", ".join(parts) or MISSING


def _note(value: object) -> str:
    return "" if text(value) == MISSING else text(value)
