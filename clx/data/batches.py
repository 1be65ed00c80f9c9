"""Batches by index: whole batches are gathered at once, from memory or ahead of their use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from clx.data.supply import split, supply
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

    clock: of the pass's first step; every batch carries its own. index stays where the labels of the samples are.
    Data that cannot lie in memory, or on the GPU, is fetched while the batch before is trained on.
    """
    clock = clock or Clock()
    order = torch.arange(len(samples)) if order is None else order
    order = order.to(samples.y.device)
    # Looked up for the whole pass: its labels are small, and each step then takes a slice of them.
    rows = order if samples.rows is None else samples.rows.index_select(0, order)
    labels, tasks = (split(each.index_select(0, order).to(device), batch_size) for each in (samples.y, samples.t))
    inputs = supply(samples.data, rows, batch_size, device)
    parts = zip(inputs, labels, tasks, split(order, batch_size), strict=True)
    for step, (raw, y, t, index) in enumerate(parts, clock.step):
        now = Clock(clock.experience, clock.phase, clock.epoch, step, clock.steps)
        yield Batch(transform(raw), y, t, raw, index, now)
