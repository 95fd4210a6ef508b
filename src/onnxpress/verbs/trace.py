"""One run as a Chrome trace: what chrome://tracing and Perfetto draw.

The format is Google's "Trace Event Format": complete events (``"ph": "X"``) in microseconds.
"""

from __future__ import annotations

from onnxpress.verbs.profiled import Node, Profiled

PROCESS = 1


def trace(found: Profiled) -> dict[str, object]:
    """The events of one profiled run, one row for each thread, what a kernel is in ``args``."""
    nodes = {node.name: node for node in found.nodes}
    threads = list(dict.fromkeys(event.thread for event in found.events))
    named: list[dict[str, object]] = [
        _word("process_name", 0, f"{found.name}, batch {found.batch}"),
        *(_word("thread_name", row, f"{found.engine} {row}") for row in range(len(threads))),
    ]
    events = [
        {
            "name": event.name,
            "cat": nodes[event.name].op if event.name in nodes else "",
            "ph": "X",
            "ts": round(event.start_ms * 1e3, 3),
            "dur": round(event.ms * 1e3, 3),
            "pid": PROCESS,
            "tid": threads.index(event.thread),
            "args": _told(nodes.get(event.name)),
        }
        for event in found.events
    ]
    return {"traceEvents": named + events, "displayTimeUnit": "ms"}


def _word(kind: str, row: int, name: str) -> dict[str, object]:
    return {"name": kind, "ph": "M", "pid": PROCESS, "tid": row, "args": {"name": name}}


def _told(node: Node | None) -> dict[str, object]:
    """The kernel's facts; its time is that of a typical run, not of this one."""
    if node is None:
        return {}
    told = node.to_dict()
    keys = ("op", "module", "provider", "implementation", "precision", "macs", "gflops", "layers")
    return {key: told[key] for key in keys if told[key] not in (None, "")}
