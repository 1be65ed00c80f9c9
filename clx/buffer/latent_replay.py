"""Activations of a frozen backbone instead of images, replaced a share at a time."""

from __future__ import annotations

import torch

from clx.buffer.base import Buffer, Embed
from clx.runtime import seed as seeding
from clx.types import Batch, Clock, Experience


class LatentReplay(Buffer):
    """After experience i (from 1) capacity / i random samples of it replace as many random ones.

    Pellegrini et al. 2020, arXiv:1912.01100, Algorithm 1, whose RM this is. While there is room it is filled up.
    What is stored is what the experience holds when it is handed over: latents, for the strategies that cut a
    network in two. Inputs and labels are written by one call. Replay is a pass through the whole memory, in an order
    that is drawn anew for each pass.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        super().__init__(capacity, seed)
        self.num_experiences = 0

    def consolidate(self, experience: Experience, embed: Embed) -> None:
        data = experience.data
        self.num_experiences += 1
        free = self.capacity - self.size
        count = min(len(data), max(self.capacity // self.num_experiences, free))
        chosen = data[torch.randperm(len(data), generator=self.draw)[:count]]
        fresh = torch.arange(self.size, self.size + min(count, free))
        victims = torch.randperm(self.size, generator=self.draw)[: count - len(fresh)]
        self.write(torch.cat((fresh, victims)), raw=chosen.raw, y=chosen.y, t=chosen.t)

    def part(self, clock: Clock, count: int) -> Batch:
        """The count samples whose turn it is at that step; reads the clock alone, so asking twice gives the same."""
        if not self.size:
            return self.sample(0)
        positions = torch.arange(clock.step * count, (clock.step + 1) * count)
        first = clock.step * count // self.size
        passes = range(first, max(first, ((clock.step + 1) * count - 1) // self.size) + 1)
        orders = [
            torch.randperm(
                self.size, generator=seeding.generator("replay", self.seed, clock.experience, clock.phase, number)
            )
            for number in passes
        ]
        return self.pick(torch.cat(orders)[positions - first * self.size])

    def state_dict(self) -> dict[str, object]:
        return super().state_dict() | {"num_experiences": self.num_experiences}

    def load_state_dict(self, state: dict[str, object]) -> None:
        super().load_state_dict(state)
        self.num_experiences = int(str(state["num_experiences"]))


def composition(num_new: int, num_stored: int, batch_size: int) -> tuple[int, int]:
    """(new, replayed) samples of a mini-batch, so that one epoch of the new is one pass through the memory.

    Pellegrini et al. 2020, Sec. 3: 300 new and 1,500 stored in batches of 128 give 21 and 107.
    """
    if not num_stored:
        return batch_size, 0
    batches = max(1, (num_new + num_stored) // batch_size)
    new = min(batch_size, max(1, num_new // batches))
    return new, batch_size - new
