"""Quantisers side by side: quality, speed and size on both engines.

    python benchmarks/bench_quantize.py [--only MiniLM,UNet] [--rounds N] [--json FILE]

onnxpress against onnxruntime's quantize_static (QDQ) and quantize_dynamic, NNCF on ONNX and on
OpenVINO, and sentence-transformers' exporter, each as its documentation advises; they live in an
environment that the first run makes from peers-sentences.txt. All calibrate on the same samples and
are scored on others, against the float file on ONNX Runtime: embeddings by the mean cosine after
pooling over the mask, classes by the share of equal answers, of pixels too.

Latency is of the first batch, every file of an engine in one run: interleaved rounds, one process
per candidate, ratios to the float file with 95 % intervals. Where int8 saturates (x86 without
VNNI), onnxruntime's quantisers get their flag for it; NNCF halves the weights of the first layer,
its default and its advice for such CPUs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers import HERE, python_for, run
from quantize_matrix import built
from quantize_nets import Built, minilm_folder

from onnxpress import api
from onnxpress.given import bound_of, processing_of
from onnxpress.machine import this_machine
from onnxpress.model import load
from onnxpress.runner import Artifact
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.verbs.measure import Candidate, measure
from onnxpress.worker import Worker

BUILD = HERE.parent / "build" / "quantize"
FLOAT, OURS = "float32", "onnxpress "
GIVEN = 100
"""Of the samples so many are given to the tools; the others score."""
ENGINES = ("onnxruntime", "openvino")
QDQ = {"ort-static": ENGINES, "nncf-onnx": ENGINES, "nncf-openvino": ("openvino",)}


@dataclass(frozen=True)
class Net:
    """What is compared on one network: our schemes by engine, peers with the engines for them."""

    schemes: Mapping[str, Sequence[str]]
    peers: Mapping[str, Sequence[str]]
    batch: int


TEXT = {"ort-dynamic": ("onnxruntime",), "sentence-transformers": ("onnxruntime",)}
NETS = {
    "MiniLM": Net(
        {"onnxruntime": ("static", "dynamic"), "openvino": ("static", "weight-only")},
        {**QDQ, **TEXT}, 32,
    ),
    "digits CNN": Net(dict.fromkeys(ENGINES, ("static",)), QDQ, 32),
    "UNet": Net(dict.fromkeys(ENGINES, ("static",)), QDQ, 8),
}  # fmt: skip


@dataclass
class Form:
    """One quantised file on one engine, and what is known of it."""

    tool: str
    engine: str
    path: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    seconds: float = 0.0
    size_bytes: int = 0
    quality: float = 0.0
    ms: float = 0.0
    ratio: Mapping[str, float] = field(default_factory=dict)

    @property
    def artifact(self) -> Artifact:
        assert self.path is not None
        return Artifact(self.path, Settings(self.engine, threads=2, options=self.options))


@dataclass(frozen=True)
class Data:
    """``given``: a file for our tools; ``rows``: the same as arrays; ``scored``: batches."""

    given: Path
    rows: Path
    scored: Sequence[Feeds]


def data_of(net: Built, folder: Path, batch: int) -> Data:
    """The samples in two parts."""
    how = {key: net.how.get(key) for key in ("task", "tokenizer")}
    given, held = folder / f"given{net.samples.suffix}", folder / f"held{net.samples.suffix}"
    if net.samples.suffix == ".npz":
        with np.load(net.samples) as file:
            arrays = dict(file)
        np.savez(given, **{name: array[:GIVEN] for name, array in arrays.items()})
        np.savez(held, **{name: array[GIVEN:] for name, array in arrays.items()})
    else:
        lines = net.samples.read_text(encoding="utf-8").splitlines()
        given.write_text("\n".join(lines[:GIVEN]) + "\n", encoding="utf-8")
        held.write_text("\n".join(lines[GIVEN:]) + "\n", encoding="utf-8")
    signature = load(net.onnx).signature
    opened = Samples.open(held, signature=signature)
    bound = bound_of(signature, opened, how["task"], processing_of(None, how["tokenizer"], held))
    rows = folder / "rows.npz"
    np.savez(rows, **bound.encode(list(Samples.open(given, signature=signature))))
    records = list(opened)
    batches = [bound.encode(records[i : i + batch]) for i in range(0, len(records), batch)]
    return Data(given, rows, batches)


def ours(net: Built, data: Data, engine: str, scheme: str, folder: Path) -> Form:
    """As ``onnxpress quantize`` does it."""
    form = Form(OURS + scheme, engine)
    started = time.perf_counter()
    done = api.quantize(
        net.onnx, scheme=scheme, samples=data.given, engine=engine, threads=2, **net.how
    )
    form.seconds = time.perf_counter() - started
    form.options = done.settings.options
    place = folder / f"{scheme}-{engine}"
    place.mkdir()
    form.path = done.model.save(place / "model.onnx")
    return form


def theirs(
    tool: str, engines: Sequence[str], net: Built, data: Data, folder: Path, python: Path
) -> list[Form]:
    """One run of the tool, as a form for each engine."""
    out = folder / tool
    out.mkdir()
    source = minilm_folder() if tool == "sentence-transformers" else net.onnx
    bits = this_machine().weight_bits
    told = run([python, HERE / "quantizers.py", tool, source, data.rows, out, bits])
    if told.why:
        return [Form(tool, engine, why=told.why) for engine in engines]
    found = json.loads(told.line)
    return [Form(tool, e, Path(found["path"]), seconds=found["seconds"]) for e in engines]


def answers(form: Form, batches: Sequence[Feeds]) -> np.ndarray:
    """What it makes of all batches: unit vectors of texts, else classes."""
    with Worker.open(form.artifact, 600) as worker:
        names = {spec.name for spec in worker.signature.inputs}
        parts = []
        for feeds in batches:
            own = {name: array for name, array in feeds.items() if name in names}
            found = list(worker.run(own).values())[-1]
            mask = feeds.get("attention_mask")
            if mask is None:
                parts.append(found.argmax(1).reshape(-1))
                continue
            if found.ndim == 3:
                found = (found * mask[..., None]).sum(1)
            parts.append(found / np.linalg.norm(found, axis=1, keepdims=True))
    return np.concatenate(parts)


def agreement(found: np.ndarray, wanted: np.ndarray) -> float:
    """The mean cosine of unit vectors; the share of equal classes."""
    if found.ndim == 2:
        return float((found * wanted).sum(1).mean())
    return float((found == wanted).mean())


def timed(forms: Sequence[Form], feeds: Feeds, batch: int, rounds: int) -> None:
    """Writes the times of all forms of one engine, the float one first."""
    candidates = [
        Candidate(f.tool, f.artifact, f.engine, "int8", f.size_bytes) for f in forms if f.path
    ]
    told = measure(candidates, feeds, baseline=FLOAT, batch=batch, rounds=rounds)
    rows = {row.name: row for row in told.rows}
    for form in forms:
        form.why = form.why or told.failures.get(form.tool, "")
        row = rows.get(form.tool)
        if row is None:
            continue
        form.ms, speedup = row.latency_ms.p50, row.speedup
        if speedup is not None and form.tool != FLOAT:
            form.ratio = {
                "value": 1 / speedup.value, "low": 1 / speedup.high, "high": 1 / speedup.low,
            }  # fmt: skip


def line(form: Form) -> str:
    """One form in 80 columns."""
    name = f"{form.engine:12}{form.tool:23}"
    if form.why:
        return name + form.why[:45]
    ratio = "{value:5.2f} ({low:.2f}-{high:.2f})".format(**form.ratio) if form.ratio else ""
    return (
        f"{name}{form.quality:8.4f}{form.ms:9.2f} {ratio:17}"
        f"{form.size_bytes / 1e6:7.2f}{form.seconds:6.0f}"
    )


def compared(name: str, folder: Path, python: Path, rounds: int) -> list[Form]:
    """All forms of one network, told as they come."""
    net, about = built(name, BUILD / name.replace(" ", "_")), NETS[name]
    data = data_of(net, folder, about.batch)
    print(f"\n{name}, batches of {about.batch}")
    print(f"{'engine':12}{'form':23} quality       ms ratio to float   MB     s", flush=True)
    forms = [Form(FLOAT, engine, net.onnx) for engine in ENGINES]
    forms += [
        ours(net, data, engine, scheme, folder)
        for engine, schemes in about.schemes.items()
        for scheme in schemes
    ]
    for tool, engines in about.peers.items():
        forms += theirs(tool, engines, net, data, folder, python)
    wanted = answers(forms[0], data.scored)
    for form in forms:
        if form.path is None:
            continue
        try:
            form.quality = agreement(answers(form, data.scored), wanted)
            weights = form.path.with_suffix(".bin")
            form.size_bytes = form.path.stat().st_size
            form.size_bytes += weights.stat().st_size if weights.is_file() else 0
        except Exception as error:  # noqa: BLE001  # a peer's file that does not run is a line
            form.why, form.path = str(error), None
    for engine in ENGINES:
        those = [form for form in forms if form.engine == engine]
        timed(those, data.scored[0], about.batch, rounds)
        print("\n".join(map(line, those)), flush=True)
    return forms


def main() -> None:
    """Print a table for each network; with ``--json`` write all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(NETS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    print(f"{machine.cpu}, {machine.threads} threads usable, {', '.join(machine.isa)}")
    python = python_for("peers-sentences.txt", BUILD)
    found: dict[str, Any] = {}
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            forms = compared(name, Path(folder), python, options.rounds)
        found[name] = [{**asdict(form), "path": None} for form in forms]
    if options.json:
        told = {"machine": machine.to_dict(), "nets": found}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
