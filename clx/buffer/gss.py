"""A streaming buffer that gives up its most redundant samples."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from clx.buffer.base import StreamingBuffer
from clx.types import Batch

UNSCORED = 0.5


class GSS(StreamingBuffer):
    """Stores samples with a score, that of their likeness to what was stored; high scores are given up first.

    Aljundi et al. 2019, arXiv:1903.08671, Algorithm 2, the part that replaces. add(batch, score=c): c [B], largest
    cosine of gradients plus 1, in [0, 2]. A full buffer refuses c >= 1; else it draws a stored sample i with
    probability C_i / sum C and replaces it with probability C_i / (C_i + c). The draw is by the scores of before the
    batch. Strategies that give no scores (all but gss) get 0.5 for every sample: a random one is replaced, every second
    time.
    """

    own = frozenset({"score"})

    def _take(self, batch: Batch, **fields: Tensor) -> None:
        score = fields.get("score")
        if score is None:
            score = torch.full((len(batch),), UNSCORED)
        super()._take(replace(batch, fields={"score": score.cpu()}), **fields | {"score": score.to(batch.y.device)})

    def place(self, batch: Batch) -> dict[int, int]:
        scores = batch.fields["score"].double()
        uniform = torch.rand(len(batch), generator=self.draw, dtype=torch.float64).tolist()
        free = min(self.capacity - self.size, len(batch))
        placed = {self.size + position: position for position in range(free)}
        stored = torch.cat((self.rows["score"][: self.size].cpu(), scores[:free])) if self.rows else scores[:free]
        candidates = (free + (scores[free:] < 1).nonzero().squeeze(1)).tolist()
        if not candidates:
            return placed
        chances = stored.clamp(min=0) + 1e-12  # all 0: any of them
        drawn = torch.multinomial(chances, len(candidates), replacement=True, generator=self.draw).tolist()
        current, incoming = stored.tolist(), scores.tolist()
        for position, slot in zip(candidates, drawn, strict=True):
            old, new = current[slot], incoming[position]
            if uniform[position] * (old + new) < old:
                current[slot], placed[slot] = new, position
        return placed
