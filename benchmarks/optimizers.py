"""One run of one optimiser from file to file, in a process of its own.

    python benchmarks/optimizers.py TOOL IN OUT [SAMPLES]

prints a JSON object: the seconds to read, optimise and write (imports left out), those of all
cores together, and the resident bytes before (imports done, no model) and at most. Peers run in
an environment of their own, so each is imported alone. SAMPLES, an .npz file, is what our guard
compares outputs on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

Run = Callable[[str, str], None]
SAMPLES = sys.argv[4] if len(sys.argv) > 4 else None


def onnxpress(target: str, verify: bool) -> Run:
    """As ``onnxpress optimize --target`` does it, or without the guard: then nothing is run."""
    import onnxruntime  # noqa: F401  # the guard's, imported here like the passes

    from onnxpress import api
    from onnxpress.recipe import Recipe
    from onnxpress.verbs.optimize import RECIPES

    Recipe.parse(RECIPES[target])

    def run(source: str, out: str) -> None:
        api.optimize(source, target=target, samples=SAMPLES, verify=verify).model.save(out)

    return run


def onnxsim() -> Run:
    """Its defaults."""
    import onnx
    import onnxsim

    def run(source: str, out: str) -> None:
        model, ok = onnxsim.simplify(onnx.load(source))
        if not ok:
            raise RuntimeError("its own check says that the outputs differ")
        onnx.save(model, out)

    return run


def onnxslim() -> Run:
    """Its defaults."""
    import onnxslim

    def run(source: str, out: str) -> None:
        onnxslim.slim(source, out)

    return run


def onnxscript() -> Run:
    """Its defaults, on onnx-ir's own reader and writer."""
    import onnx_ir
    import onnxscript.optimizer

    def run(source: str, out: str) -> None:
        model = onnx_ir.load(source)
        onnxscript.optimizer.optimize(model)
        onnx_ir.save(model, out)

    return run


def ort_fusions() -> Run:
    """``onnxscript.rewriter.ort_fusions.optimize_for_ort``, its defaults."""
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    def run(source: str, out: str) -> None:
        model, _ = optimize_for_ort(onnx_ir.load(source))
        onnx_ir.save(model, out)

    return run


def onnxruntime(level: str) -> Run:
    """What ONNX Runtime makes of the file when it loads it, at one of its levels, on the CPU."""
    import onnxruntime as ort

    def run(source: str, out: str) -> None:
        options: Any = ort.SessionOptions()
        options.graph_optimization_level = getattr(
            ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
        )
        options.optimized_model_filepath = out
        options.log_severity_level = 4
        ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    return run


OURS: Mapping[str, str] = {"portable": "portable", "for-ort": "onnxruntime"}
"""How the table calls our targets, and they themselves."""
PEERS: Mapping[str, Callable[[], Run]] = {
    "onnxsim": onnxsim,
    "onnxslim": onnxslim,
    "onnxscript": onnxscript,
    "ort_fusions": ort_fusions,
    "ort-basic": partial(onnxruntime, "BASIC"),
    "ort-extended": partial(onnxruntime, "EXTENDED"),
    "ort-all": partial(onnxruntime, "ALL"),
}
TOOLS: Mapping[str, Callable[[], Run]] = {
    **{name: partial(onnxpress, target, True) for name, target in OURS.items()},
    **{f"{name}-alone": partial(onnxpress, target, False) for name, target in OURS.items()},
    **PEERS,
}


def resident(most: bool) -> int:
    """Bytes of this process now, or at most so far."""
    key = "VmHWM:" if most else "VmRSS:"
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def main() -> None:
    """See the top of this file."""
    tool, source, out = sys.argv[1:4]
    run = TOOLS[tool]()
    base = resident(most=False)
    started, cpu = time.perf_counter(), time.process_time()
    run(source, out)
    told = {
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "base_bytes": base,
        "peak_bytes": resident(most=True),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
