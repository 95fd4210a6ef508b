"""Where "ONNX is 48 times faster than PyTorch" comes from: unequal work, taken apart.

    python naive.py MODEL [--processes 5] [--calls 30] [--threads 2] [--json FILE]

The first line times as the tutorial does, each other one with one unfairness less, the last one the
same work on both sides. Each side has a fresh process every time, since PyTorch's first call comes
once in a process; ratios are of typical times over pairs of processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from compare import described
from sides import PADDED, Work, embed, onnx_side, times, torch_side
from ways import normalised, sentence_transformer

from onnxpress import api
from onnxpress.errors import InputError
from onnxpress.machine import this_machine
from onnxpress.verbs.measure import NOISY_SPREAD
from onnxpress.verbs.measured import Ratio, compare

TOLERANCE = 1e-4
"""How much two numbers of the same normalised vector may differ between both sides."""


@dataclass(frozen=True)
class Unfairness:
    """``torch`` or ``onnx`` is what that side does otherwise than the other one."""

    what: str
    torch: Mapping[str, Any] = field(default_factory=dict)
    onnx: Mapping[str, Any] = field(default_factory=dict)


UNFAIR = (
    Unfairness("PyTorch's first call, warm ONNX", torch={"cold": True}),
    Unfairness(f"PyTorch padded to {PADDED} tokens", torch={"padded": True}),
    Unfairness("ONNX with one sentence, not three", onnx={"texts": 1}),
    Unfairness("PyTorch with gradients", torch={"gradients": True}),
    Unfairness("ONNX's tokens off the clock", onnx={"tokens": False}),
    Unfairness("ONNX's mean without the mask", onnx={"mask": False}),
)


@dataclass(frozen=True)
class Line:
    """Milliseconds of each process with this unfairness and all below it; "" where none is left."""

    what: str
    torch_ms: tuple[float, ...]
    onnx_ms: tuple[float, ...]

    @property
    def ratio(self) -> Ratio:
        """How many times as fast ONNX seems."""
        return compare(self.onnx_ms, self.torch_ms, 0)


def works() -> list[tuple[str, Work, Work]]:
    """With all unfairness first, one less each, and none at last: what PyTorch and ONNX do."""
    found = []
    for gone in range(len(UNFAIR) + 1):
        torch, onnx = dict[str, Any](), dict[str, Any]()
        for left in UNFAIR[gone:]:
            torch |= left.torch
            onnx |= left.onnx
        what = UNFAIR[gone].what if gone < len(UNFAIR) else ""
        found.append((what, Work(**torch), Work(**onnx)))
    return found


def fresh(function: Callable[..., Any], *given: object) -> Any:
    """What ``function`` gives in a process that did nothing before."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def measured(model: str, file: Path, processes: int, calls: int, threads: int) -> list[Line]:
    """A line for each of ``works``; PyTorch and ONNX in turns."""
    steps = works()
    torch, onnx = [], []
    for _ in range(processes):
        todo = list(dict.fromkeys(work for _, work, _ in steps))
        torch.append(fresh(times, torch_side, (model, threads), todo, calls))
        todo = list(dict.fromkeys(work for _, _, work in steps))
        onnx.append(fresh(times, onnx_side, (str(file), model, threads), todo, calls))
    return [
        Line(what, tuple(each[one] for each in torch), tuple(each[other] for each in onnx))
        for what, one, other in steps
    ]


def checked(model: str, file: Path, threads: int) -> float:
    """The least cosine that the mean without the mask has to the right vectors.

    Raises ``InputError`` where equal work does not give equal vectors: nothing is timed then.
    """
    side, tokenizer = onnx_side(str(file), model, threads)
    _, right = embed(*torch_side(model, threads), Work())
    _, same = embed(side, tokenizer, Work())
    apart = float(np.abs(right - same).max())
    if not apart <= TOLERANCE:
        raise InputError(f"{file.name} differs from PyTorch by {apart:.2g}", f"{TOLERANCE:g}")
    _, naive = embed(side, tokenizer, Work(mask=False))
    return float((normalised(naive) * right).sum(1).min())


def factors(lines: Sequence[Line]) -> list[float]:
    """How much each unfairness made of the ratio; times the fair one they are the naive one."""
    ratios = [line.ratio.value for line in lines]
    return [before / after for before, after in itertools.pairwise(ratios)]


def show(lines: Sequence[Line], cosine: float) -> None:
    """80 columns wide."""
    print(
        f"\n{'what was unequal':33}{'PyTorch ms':>14}{'ONNX ms':>13}{'ratio':>7}{'→':>6}{'made':>6}"
    )
    *unfair, fair = lines
    for line, after, factor in zip(unfair, lines[1:], factors(lines), strict=True):
        made = f"{line.ratio.value:7.1f}{after.ratio.value:6.1f}{factor:5.2f}×"
        print(f"{line.what:33}{spread(line.torch_ms):>14}{spread(line.onnx_ms):>13}{made}")
    last = f"{spread(fair.torch_ms):>14}{spread(fair.onnx_ms):>13}{fair.ratio.value:7.1f}"
    print(f"{'the same work on both sides':33}{last}")
    print(f"\nwithout the mask a vector's cosine to the right one is down to {cosine:.4f}")
    product = " × ".join(f"{factor:.2f}" for factor in factors(lines))
    print(f"naive {unfair[0].ratio.value:.1f} = {product} × fair {fair.ratio.value:.2f}")
    interval = f"{fair.ratio.low:.2f}–{fair.ratio.high:.2f}{' (tie)' if fair.ratio.tie else ''}"
    varying = statistics.pstdev(fair.torch_ms) / statistics.mean(fair.torch_ms)
    if varying > NOISY_SPREAD:
        print(f"warning: this machine was busy: PyTorch's processes vary by {varying:.0%}")
    print(f"fair: {fair.ratio.value:.2f} times as fast, 95 % interval {interval}")


def spread(ms: Sequence[float]) -> str:
    """Mean ± standard deviation over processes."""
    mean, deviation = statistics.mean(ms), statistics.stdev(ms) if len(ms) > 1 else 0.0
    digits = 1 if mean >= 10 else 2
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def main() -> None:
    """Print the lines; with ``--json`` write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--processes", type=int, default=5, help="of each side")
    parser.add_argument("--calls", type=int, default=30, help="warm ones, in each process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(described(this_machine(), options.threads))
    with tempfile.TemporaryDirectory() as folder:
        package = sentence_transformer(options.model)
        whole = (package[0].auto_model, package.tokenizer)
        file = api.convert(whole).model.save(Path(folder) / "transformer.onnx")
        cosine = checked(options.model, file, options.threads)
        lines = measured(options.model, file, options.processes, options.calls, options.threads)
    show(lines, cosine)
    if options.json:
        told = {"lines": [asdict(line) for line in lines], "factors": factors(lines)}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
