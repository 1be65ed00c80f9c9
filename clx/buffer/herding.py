"""Exemplars whose mean stays close to the class mean."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clx.buffer.base import Embed, SelectingBuffer
from clx.types import Samples


class Herding(SelectingBuffer):
    """Herding on normalised features. Rebuffi et al. 2017 (iCaRL), arXiv:1611.07725, Algorithm 4; Welling 2009.

    Any prefix of a class's exemplars is what a smaller budget would have chosen.
    """

    def rank(self, samples: Samples, embed: Embed, count: int) -> Tensor:
        return herd(embed(samples).to("cpu"), count)


def herd(features: Tensor, count: int) -> Tensor:
    """Positions [count] in the order in which herding picks them; features [N, D].

    With f and their mean mu normalised to length 1, pick k minimises |mu - (S + f) / k| over what is left, S
    being the sum of the picks before it. Squared and times k^2 that is |f|^2 - 2 f (k mu - S) and a constant.
    """
    f = functional.normalize(features.double(), dim=1)
    mean = functional.normalize(f.mean(0), dim=0)
    squares = f.square().sum(1)
    total = torch.zeros_like(mean)
    taken = torch.zeros(len(f), dtype=torch.bool)
    picks = torch.empty(count, dtype=torch.int64)
    for k in range(1, count + 1):
        cost = (squares - 2 * (f @ (k * mean - total))).masked_fill(taken, torch.inf)
        picks[k - 1] = best = cost.argmin()
        taken[best] = True
        total += f[best]
    return picks
