"""A uniform sample of everything seen, renewed at the end of each experience."""

from __future__ import annotations

from typing import Any

import torch

from clx.buffer.base import Buffer, Embed
from clx.types import Experience


class Random(Buffer):
    """At the end of an experience every sample met so far is stored with the same probability.

    Unlike the reservoir it holds nothing of an experience while that is being trained.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        super().__init__(capacity, seed)
        self.num_seen = 0

    def consolidate(self, experience: Experience, embed: Embed) -> None:
        data = experience.data
        total = self.num_seen + len(data)
        winners = torch.randperm(total, generator=self.draw)[: self.capacity]
        num_new = int((winners >= self.num_seen).sum())
        keep = torch.randperm(self.size, generator=self.draw)[: len(winners) - num_new]
        new = data[torch.randperm(len(data), generator=self.draw)[:num_new]]
        both = self.samples()[keep] + new if len(keep) else new
        self.write(torch.arange(len(both)), raw=both.raw, y=both.y, t=both.t)
        self.size, self.num_seen = len(both), total

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"num_seen": self.num_seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.num_seen = state["num_seen"]
