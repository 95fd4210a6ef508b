"""One way of embedding sentences, in a process of its own that answers line by line.

    python benchmarks/embedders.py WAY WHAT SENTENCES

WAY is ``torch``, ``onnx`` or ``openvino``: sentence-transformers' backend, and WHAT the folder of
its model; or ``onnxpress``, and WHAT the JSON of an ONNX file, its engine, its options and the
folder of its tokenizer. SENTENCES has one a line. Prints ``ready`` once it has embedded some of
them; then ``run`` embeds all and prints the seconds, ``save FILE`` writes the vectors as .npy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnxpress.task import Bound

THREADS = 2
Embed = Callable[[list[str]], np.ndarray]


def sentence_transformers(backend: str, what: str) -> Embed:
    """``encode`` as it comes: 32 sentences a batch, sorted by length."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    words: dict[str, Any] = {}
    if backend == "onnx":
        words = {"provider": "CPUExecutionProvider"}
    file, _, name = what.partition("#")
    words |= {"file_name": name} if name else {}
    words |= {} if backend == "torch" or name else {"export": True}
    net = SentenceTransformer(file, backend=backend, device="cpu", model_kwargs=words)
    return lambda texts: np.asarray(net.encode(texts, show_progress_bar=False))


def predicting(what: str) -> tuple[Bound, Callable[[Iterable[str]], Iterator[object]]]:
    """What a file of ours means, and its predictions as a bundle's ``stream`` gives them."""
    from onnxpress import registry
    from onnxpress.batching import predictions
    from onnxpress.engine import Engine
    from onnxpress.given import processing_of
    from onnxpress.samples import Record
    from onnxpress.settings import Settings
    from onnxpress.task import Task

    told = json.loads(what)
    settings = Settings(told["engine"], threads=THREADS, options=told["options"])
    session = registry.create(Engine, "engines", told["engine"]).open(Path(told["file"]), settings)
    processing = processing_of(None, told["tokenizer"], "texts.txt")
    bound = registry.create(Task, "tasks", "text_embedding").bind(session.signature, processing)
    return bound, lambda texts: predictions(bound, session, session.signature, map(Record, texts))


def onnxpress(what: str) -> Embed:
    """As a bundle's ``predict`` does."""
    bound, predict = predicting(what)
    return lambda texts: np.asarray(bound.gather(list(predict(texts))))


def main() -> None:
    """Answer until the lines end."""
    way, what, file = sys.argv[1:]
    texts = Path(file).read_text(encoding="utf-8").splitlines()
    embed = onnxpress(what) if way == "onnxpress" else sentence_transformers(way, what)
    embed(texts[:200])
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, path = line.strip().partition(" ")
        if word == "save":
            np.save(path, embed(texts).astype(np.float32))
            print("saved", flush=True)
            continue
        started = time.perf_counter()
        embed(texts)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
