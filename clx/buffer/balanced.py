"""Streaming buffers that keep the classes level."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from clx.buffer.base import Offer, StreamingBuffer
from clx.types import Batch


class BalancedBuffer(StreamingBuffer):
    """Knows the slots of each class, oldest first; subclasses say which slot a sample takes in a full buffer."""

    own = frozenset({"age"})

    def __init__(self, capacity: int, seed: int, *, offer: Offer) -> None:
        super().__init__(capacity, seed, offer=offer)
        self.members: dict[int, list[int]] = {}  # class -> its slots, oldest first
        self.num_seen: Counter[int] = Counter()  # class -> samples offered
        self.num_added = 0
        self.used = 0  # slots given out
        self._largest: int | None = None  # None = members have changed since it was found

    @abstractmethod
    def replace(self, label: int, uniform: float) -> int | None:
        """The slot to free, taken off `members`, for a sample of class label; None = the sample is dropped.

        uniform: a draw from [0, 1) to decide by.
        """

    def place(self, batch: Batch) -> dict[int, int]:
        placed: dict[int, int] = {}
        uniform = torch.rand(len(batch), generator=self.draw, dtype=torch.float64).tolist()
        for position, label in enumerate(batch.y.tolist()):
            self.num_seen[label] += 1
            slot: int | None
            if self.used < self.capacity:
                slot, self.used = self.used, self.used + 1
            else:
                slot = self.replace(label, uniform[position])
            if slot is not None:
                self.members.setdefault(label, []).append(slot)
                self._largest = None
                placed.pop(slot, None)  # keeps the order of arrival where a slot changes hands within a batch
                placed[slot] = position
        return placed

    def largest(self) -> int:
        """The class with the most samples, the first to come of equals."""
        if self._largest is None:
            sizes = list(map(len, self.members.values()))
            self._largest = list(self.members)[sizes.index(max(sizes))]
        return self._largest

    def write(self, slots: Tensor, **fields: Tensor) -> None:
        age = torch.arange(self.num_added, self.num_added + len(slots))
        self.num_added += len(slots)
        super().write(slots, age=age, **fields)

    def state_dict(self) -> dict[str, Any]:
        counters = {"num_added": self.num_added, "num_seen": dict(self.num_seen), "classes": list(self.members)}
        return super().state_dict() | counters

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.num_added, self.num_seen, self.used = state["num_added"], Counter(state["num_seen"]), self.size
        self.members, self._largest = {label: [] for label in state["classes"]}, None
        if self.rows:
            labels = self.rows["y"].tolist()
            for slot in self.rows["age"][: self.size].cpu().argsort().tolist():
                self.members[labels[slot]].append(slot)
