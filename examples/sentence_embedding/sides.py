"""PyTorch's and ONNX Runtime's side of one transformer, with what is on the clock as asked."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from compare import TUTORIAL
from ways import normalised, sentence_transformer

PADDED = 128
"""Tokens of ``padding="max_length"``: what paraphrase-multilingual-MiniLM-L12-v2 takes."""
WARM_UP = 5


@dataclass(frozen=True)
class Work:
    """What one side does while its clock runs; as it is here, both do the same."""

    cold: bool = False
    texts: int = len(TUTORIAL)
    padded: bool = False
    gradients: bool = False
    tokens: bool = True
    mask: bool = True


Side = Callable[[Mapping[str, np.ndarray], Work], np.ndarray]


def embed(side: Side, tokenizer: Any, work: Work) -> tuple[float, np.ndarray]:
    """Milliseconds on the clock, and the vectors."""
    how = {"padding": "max_length", "max_length": PADDED} if work.padded else {"padding": True}

    def tokens() -> Mapping[str, np.ndarray]:
        texts = list(TUTORIAL[: work.texts])
        return dict(tokenizer(texts, truncation=True, return_tensors="np", **how))

    before = {} if work.tokens else tokens()
    started = time.perf_counter()
    feeds = tokens() if work.tokens else before
    hidden = side(feeds, work)
    if work.mask:
        mask = feeds["attention_mask"][:, :, None].astype(np.float32)
        vectors = normalised((hidden * mask).sum(1) / mask.sum(1))
    else:
        vectors = hidden.mean(1)
    return (time.perf_counter() - started) * 1e3, vectors


def torch_side(model: str, threads: int) -> tuple[Side, Any]:
    """The transformer inside, without what ``SentenceTransformer.encode`` does around it."""
    package = sentence_transformer(model)
    import torch

    torch.set_num_threads(threads)
    net = package[0].auto_model.eval()

    def run(feeds: Mapping[str, np.ndarray], work: Work) -> np.ndarray:
        with torch.inference_mode(not work.gradients):
            tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
            hidden: np.ndarray = net(**tensors).last_hidden_state.detach().numpy()
        return hidden

    return run, package.tokenizer


def onnx_side(file: str, model: str, threads: int) -> tuple[Side, Any]:
    """ONNX Runtime with its defaults, on the same transformer."""
    import onnxruntime

    tokenizer = sentence_transformer(model).tokenizer
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(feeds: Mapping[str, np.ndarray], work: Work) -> np.ndarray:
        hidden: np.ndarray = session.run(["last_hidden_state"], {n: feeds[n] for n in names})[0]
        return hidden

    return run, tokenizer


def times(
    open_side: Callable[..., tuple[Side, Any]],
    given: tuple[object, ...],
    todo: Sequence[Work],
    calls: int,
) -> dict[Work, float]:
    """In a fresh process: its first call, then the median of interleaved warm ones, in ms."""
    side, tokenizer = open_side(*given)
    found = {work: embed(side, tokenizer, work)[0] for work in todo if work.cold}
    warm = [work for work in todo if not work.cold]
    rounds = [[embed(side, tokenizer, work)[0] for work in warm] for _ in range(WARM_UP + calls)][
        WARM_UP:
    ]
    return found | {
        w: statistics.median(t) for w, t in zip(warm, zip(*rounds, strict=True), strict=True)
    }
