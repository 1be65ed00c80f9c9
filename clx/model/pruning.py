"""Weights that a network can do without."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def smallest(weight: Tensor, candidates: Tensor, fraction: float) -> Tensor:
    """Which of the candidates are the given fraction with the smallest absolute values.

    Han et al. 2015, arXiv:1506.02626; layer by layer in Mallya & Lazebnik 2018, arXiv:1711.05769, Sec. 3. weight [...];
    candidates [...] bool; fraction in [0, 1]. Returns bool [...]: round(fraction * candidates) of them, and whatever is
    as small as the largest of these.
    """
    sizes = weight.abs()
    among = sizes[candidates]
    count = round(fraction * len(among))
    if not count:
        return torch.zeros_like(candidates)
    return candidates & (sizes <= among.kthvalue(count).values)
