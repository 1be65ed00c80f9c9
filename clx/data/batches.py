"""Batches by index: no per-sample work, no workers, for data that lies in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from clx.types import Batch, Clock, Samples


def batches(
    samples: Samples,
    batch_size: int,
    transform: Callable[[Tensor], Tensor],
    device: torch.device,
    *,
    order: Tensor | None = None,
    clock: Clock | None = None,
) -> Iterator[Batch]:
    """One pass over the samples in batches of at most batch_size, in that order ([N] positions; None = as they lie).

    clock: of the pass's first step; every batch carries its own.
    """
    clock = clock or Clock()
    if order is None:
        order = torch.arange(len(samples))
    home = samples.data.device
    for number, part in enumerate(order.split(batch_size)):
        index = part.to(home)
        raw = samples.take(index).to(device, non_blocking=True)
        y, t = samples.y.index_select(0, index).to(device), samples.t.index_select(0, index).to(device)
        now = Clock(clock.experience, clock.phase, clock.epoch, clock.step + number, clock.steps)
        yield Batch(transform(raw), y, t, raw, index, now)
