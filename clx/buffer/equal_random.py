"""Random exemplars, as many for each class."""

from __future__ import annotations

import torch
from torch import Tensor

from clx.buffer.base import Embed, SelectingBuffer
from clx.types import Samples


class EqualRandom(SelectingBuffer):
    """A uniform draw from each class at the end of its experience, with equal shares of capacity. The memory of
    Chaudhry et al. 2019 (A-GEM), arXiv:1812.00420."""

    def rank(self, samples: Samples, embed: Embed, count: int) -> Tensor:
        return torch.randperm(len(samples), generator=self.draw)[:count]
