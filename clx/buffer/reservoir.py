"""A uniform sample of everything seen, at any moment."""

from __future__ import annotations

from typing import Any

import torch

from clx.buffer.base import Offer, StreamingBuffer
from clx.types import Batch


class Reservoir(StreamingBuffer):
    """Reservoir sampling: after n samples each is stored with probability capacity / n. Vitter 1985,
    doi:10.1145/3147.3165, Algorithm R, a whole batch at a time."""

    def __init__(self, capacity: int, seed: int, *, offer: Offer) -> None:
        super().__init__(capacity, seed, offer=offer)
        self.num_seen = 0

    def place(self, batch: Batch) -> dict[int, int]:
        first = self.num_seen
        self.num_seen += len(batch)
        uniform = torch.rand(len(batch), generator=self.draw, dtype=torch.float64)
        # The sample at position n of the stream, counted from 1, goes to any of n slots, if that is one of ours.
        slots = (uniform * torch.arange(first + 1, self.num_seen + 1, dtype=torch.float64)).long().tolist()
        for position in range(min(self.capacity - first, len(batch))):
            slots[position] = first + position  # until all are filled, in order
        return {slot: n for n, slot in enumerate(slots) if slot < self.capacity}  # of two in one slot, the later stays

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"num_seen": self.num_seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.num_seen = state["num_seen"]
