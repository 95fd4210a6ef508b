"""Sentences a second: onnxpress beside sentence-transformers, on the same sentences, in one run.

    python benchmarks/bench_embeddings.py [--count 1000] [--rounds 7] [--only WORD]

all-MiniLM-L6-v2 with its own weights, from raw text to normalised vectors on both sides, two
threads. Each way lives in a process of its own; in each round every way embeds all sentences once,
in an order drawn anew. sentence-transformers runs in an environment of its own
(peers-sentences.txt), its int8 file is made by its own exporter there. Ratios are of paired rounds,
with 95 % intervals; quality is against sentence-transformers on PyTorch.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from bench_quantize import BUILD
from peers import python_for, run
from quantize_matrix import built
from quantize_nets import minilm_folder

from onnxpress import api
from onnxpress.machine import this_machine
from onnxpress.similarity import average_ranks
from onnxpress.verbs.measured import compare

HERE = Path(__file__).resolve().parent
BASELINE = "sentence-transformers torch"
CALIBRATING = 160


def sentences(count: int) -> list[str]:
    """English ones of 5 to 80 words, of Python's and scikit-learn's help texts, seeded order."""
    import sklearn.datasets

    names = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
    texts = [str(getattr(sklearn.datasets, f"load_{name}")().DESCR) for name in names]
    for module in (sys.modules[name] for name in sorted(sys.modules) if name.startswith("sklearn")):
        texts += [
            str(thing.__doc__) for thing in vars(module).values() if hasattr(thing, "__doc__")
        ]
    found = set()
    for text in (*topics.values(), *texts):
        for paragraph in text.split("\n\n"):
            prose = " ".join(paragraph.split())
            found.update(re.findall(r"[A-Z][A-Za-z ,'-]+[.](?= |$)", prose))
    chosen = sorted(sentence for sentence in found if 5 <= len(sentence.split()) <= 80)
    random.Random(0).shuffle(chosen)
    if len(chosen) < count:
        chosen *= -(-count // len(chosen))
    return chosen[:count]


@dataclass
class Way:
    """One way of embedding: its process, the seconds of each round, its vectors."""

    name: str
    words: Sequence[object]
    seconds: list[float] = field(default_factory=list)
    vectors: np.ndarray | None = None
    process: subprocess.Popen[str] | None = None
    why: str = ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in self.words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._answer("ready")

    def ask(self, text: str) -> str:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self, wanted: str = "") -> str:
        """The last word on a line of its own; libraries print too."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = line.strip()
            if said in ("ready", "saved") or re.fullmatch(r"[0-9.e-]+", said):
                return said
        self.why = f"ended with code {self.process.wait()} {wanted}".strip()
        return ""


def ours(file: Path, engine: str, options: Mapping[str, str]) -> str:
    """What ``embedders.py`` is told of a file of ours."""
    told = {"file": str(file), "engine": engine, "options": dict(options)}
    return json.dumps({**told, "tokenizer": str(minilm_folder())})


def ways(folder: Path, texts: Path, python: Path) -> list[Way]:
    """All of them; int8 files are made here."""
    script, model = HERE / "embedders.py", minilm_folder()
    net = built("MiniLM", BUILD / "MiniLM")
    calibrating = folder / "calibrating.txt"
    lines = net.samples.read_text(encoding="utf-8").splitlines()[:CALIBRATING]
    calibrating.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = [Way(BASELINE, [python, script, "torch", model, texts])]
    found += [
        Way(f"sentence-transformers {backend}", [python, script, backend, model, texts])
        for backend in ("onnx", "openvino")
    ]
    bits = this_machine().weight_bits
    out = folder / "st"
    out.mkdir()
    told = run([python, HERE / "quantizers.py", "sentence-transformers", model, texts, out, bits])
    if told.why:
        found.append(Way("sentence-transformers onnx int8", [], why=told.why))
    else:
        path = Path(json.loads(told.line)["path"])
        shutil.copytree(model, folder / "whole")
        (folder / "whole" / "onnx").mkdir(exist_ok=True)
        shutil.copy(path, folder / "whole" / "onnx")
        words = [python, script, "onnx", f"{folder / 'whole'}#onnx/{path.name}", texts]
        found.append(Way("sentence-transformers onnx int8", words))
    for engine in ("onnxruntime", "openvino"):
        what = ours(net.onnx, engine, {})
        name = f"onnxpress {engine} float32"
        found.append(Way(name, [sys.executable, script, "onnxpress", what, texts]))
        for scheme in ("static",) if engine == "onnxruntime" else ("static", "weight-only"):
            done = api.quantize(
                net.onnx, scheme=scheme, samples=calibrating, engine=engine, threads=2, **net.how
            )
            path = done.model.save(folder / f"{engine}-{scheme}.onnx")
            what = ours(path, engine, done.settings.options)
            name = f"onnxpress {engine} int8 {scheme}"
            found.append(Way(name, [sys.executable, script, "onnxpress", what, texts]))
    return found


def quality(vectors: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """The mean cosine, and Spearman's correlation of the similarities of 512 sentences' pairs."""
    cosine = float((vectors * wanted).sum(1).mean())
    upper = np.triu_indices(min(512, len(wanted)), 1)
    ranks = [average_ranks((each[:512] @ each[:512].T)[upper]) for each in (vectors, wanted)]
    return cosine, float(np.corrcoef(ranks)[0, 1])


def timed(every: Sequence[Way], rounds: int, folder: Path) -> None:
    """Every way's vectors, then rounds of all of them."""
    order = random.Random(0)
    for way in every:
        if not way.why:
            way.start()
        if not way.why and way.ask(f"save {folder / 'vectors.npy'}"):
            way.vectors = np.load(folder / "vectors.npy")
    alive = [way for way in every if not way.why]
    for _ in range(rounds):
        for way in order.sample(alive, len(alive)):
            way.seconds.append(float(way.ask("run")))
    for way in alive:
        assert way.process is not None
        way.process.communicate()


def main() -> None:
    """Print the table; with ``--json`` write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    print(f"{machine.cpu}, {machine.threads} threads usable, {', '.join(machine.isa)}")
    if not (machine.fast_int8 and machine.fast_bfloat16):
        print("without VNNI and BF16: the bars of 6x, 4x and 1.8x are not for this CPU")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts = folder / "texts.txt"
        texts.write_text("\n".join(sentences(options.count)) + "\n", encoding="utf-8")
        every = ways(folder, texts, python_for("peers-sentences.txt", BUILD))
        timed(every, options.rounds, folder)
    base = every[0]
    assert base.vectors is not None
    print(f"\n{options.count} sentences          seconds  times as fast     cosine Spearman")
    rows = []
    for way in every:
        if way.vectors is None:
            print(f"{way.name:36}{way.why[:43]}")
            continue
        ratio, (cosine, spearman) = (
            compare(way.seconds, base.seconds, 0),
            quality(way.vectors, base.vectors),
        )
        middle = statistics.median(way.seconds)
        shown = f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
        print(f"{way.name:32}{middle:7.2f}  {shown:18}{cosine:.5f} {spearman:.4f}", flush=True)
        rows.append(
            {"name": way.name, "seconds": way.seconds, "cosine": cosine, "spearman": spearman}
        )
    if options.json:
        told = {"machine": machine.to_dict(), "count": options.count, "rows": rows}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
