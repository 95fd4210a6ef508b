"""The training loop for those who have none of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass

import torch
from torch import Tensor

from onnxpress.errors import InputError, SamplesError
from onnxpress.progress import Progress, silent
from onnxpress.training.batches import moved, pair_of
from onnxpress.training.network import Network

Loss = Callable[..., Tensor]
"""``loss(outputs, targets)`` → one number, as the functions of ``torch.nn.functional`` do."""


@dataclass(frozen=True)
class History:
    """``losses`` holds the mean loss of each epoch's batches, ``steps`` how many there were."""

    losses: tuple[float, ...]
    steps: int

    def to_dict(self) -> dict[str, object]:
        return {"losses": list(self.losses), "steps": self.steps}


def fit(
    network: Network,
    loader: Iterable[object],
    loss: Loss,
    *,
    epochs: int,
    lr: float,
    progress: Progress = silent,
) -> History:
    """Train ``network`` with Adam; where ``loader`` has a length the rate falls to 0 as a cosine.

    Raises ``InputError`` for a loss that is not one finite number: the network is then as the
    step before left it.
    """
    if epochs < 1:
        raise InputError(f"epochs={epochs}", "a number of at least 1")
    if not 0 < lr < math.inf:
        raise InputError(f"lr={lr}", "a number above 0")
    optimizer = torch.optim.Adam(network.parameters(), lr)
    total = epochs * len(loader) if isinstance(loader, Sized) else 0
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total) if total else None
    device = next(network.parameters()).device
    losses, steps = [], 0
    for epoch in range(1, epochs + 1):
        seen: list[float] = []
        for item in loader:
            inputs, targets = pair_of(item, network.inputs)
            outputs = network(**{name: tensor.to(device) for name, tensor in inputs.items()})
            value = loss(outputs, moved(targets, device))
            _check(value, epoch, len(seen) + 1)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]  # as torch declares it
            optimizer.step()
            if schedule is not None:
                schedule.step()
            seen.append(float(value.detach()))
            steps += 1
            progress("training", steps, total)
        if not seen:
            raise SamplesError(
                f"the loader yields nothing in epoch {epoch}",
                "pairs (inputs, targets), anew in each epoch",
                "a generator can be gone through once only: give a list or a DataLoader",
            )
        losses.append(sum(seen) / len(seen))
    return History(tuple(losses), steps)


def _check(value: object, epoch: int, batch: int) -> None:
    where = f"in epoch {epoch}, batch {batch}"
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        shown = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"the loss {where} is {shown}", "one number that depends on the outputs")
    if not math.isfinite(float(value.detach())):
        raise InputError(
            f"the loss {where} is {float(value.detach())}",
            "a finite number",
            "a smaller lr may keep it finite, if inputs and targets are",
        )
