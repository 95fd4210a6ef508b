"""One way of classifying JPEG files, in a process of its own that answers line by line.

    python benchmarks/classifiers.py WAY MODEL FILE PHOTOS

WAY is ``eager`` or ``compiled`` (MODEL of models.py in PyTorch), ``onnxruntime`` or ``openvino``
(FILE by the engine's own API, records prepared one after another), or ``onnxpress-ENGINE``: as a
bundle's ``stream`` does. PHOTOS is a folder. Every way prepares records by the same code. Prints
``ready``; then ``run`` classifies all and prints the seconds, ``save FILE`` writes the scores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from onnxpress import registry
from onnxpress.batching import chunks, predictions
from onnxpress.engine import Engine
from onnxpress.model import load
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.settings import Settings
from onnxpress.task import Bound, Task

IMAGENET = "size=256,crop=224,mean=0.485/0.456/0.406,std=0.229/0.224/0.225"
THREADS, ROWS = 2, 16
Scores = Callable[[Iterable[Record]], np.ndarray]


def pytorch(model: str, bound: Bound, *, compiled: bool) -> Scores:
    """Batches of 16 through the module."""
    import models
    import torch

    torch.set_num_threads(THREADS)
    net = getattr(models, model)().eval()
    run = torch.compile(net) if compiled else net

    def scores(records: Iterable[Record]) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for batch in chunks(records, ROWS):
                (tensor,) = bound.encode(batch).values()
                found.append(run(torch.from_numpy(tensor)).numpy())
        return np.concatenate(found)

    return scores


def by_itself(engine: str, file: str, bound: Bound) -> Scores:
    """Batches of 16 through the engine's own API."""
    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

        def run(feeds: dict[str, np.ndarray]) -> np.ndarray:
            return np.asarray(session.run(None, feeds)[0])
    else:
        import openvino

        config = {"INFERENCE_NUM_THREADS": str(THREADS), "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(file, "CPU", config)

        def run(feeds: dict[str, np.ndarray]) -> np.ndarray:
            return np.array(compiled(list(feeds.values()))[0])

    return lambda records: np.concatenate(
        [run(dict(bound.encode(batch))) for batch in chunks(records, ROWS)]
    )


def ours(engine: str, file: str, bound: Bound) -> Scores:
    """The stream of a bundle; its predictions as scores of the winning class."""
    settings = Settings(engine, threads=THREADS)
    session = registry.create(Engine, "engines", engine).open(Path(file), settings)

    def scores(records: Iterable[Record]) -> np.ndarray:
        rows = predictions(bound, session, session.signature, records)
        return np.asarray([[row["index"], row["score"]] for row in rows])  # type: ignore[index]

    return scores


def main() -> None:
    """Answer until the lines end."""
    way, model, file, folder = sys.argv[1:]
    records = [Record(path) for path in sorted(Path(folder).glob("*.jpg"))]
    task = registry.create(Task, "tasks", "image_classification")
    bound = task.bind(load(file).signature, Processing.parse(IMAGENET))
    if way in ("eager", "compiled"):
        scores = pytorch(model, bound, compiled=way == "compiled")
    elif way.startswith("onnxpress-"):
        scores = ours(way.removeprefix("onnxpress-"), file, bound)
    else:
        scores = by_itself(way, file, bound)
    scores(records[: 2 * ROWS])
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, path = line.strip().partition(" ")
        if word == "save":
            found = scores(records)
            best = found[:, 0] if found.shape[1] == 2 else found.argmax(1)
            np.save(path, best.astype(np.int64))
            print("saved", flush=True)
            continue
        started = time.perf_counter()
        scores(records)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
