"""Hard attention to the task: gates, how many units they take, and the gradient of what they are made from.

Serra et al. 2018, arXiv:1801.01423. Shapes: U units of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_EXPONENT = 50.0  # as in the authors' code: cosh is finite below


def annealed(step: int, steps: int, s_max: float) -> float:
    """s = 1 / s_max + (s_max - 1 / s_max) step / (steps - 1): from soft gates to hard ones. Eq. 3."""
    return 1 / s_max + (s_max - 1 / s_max) * step / (steps - 1) if steps > 1 else s_max


def capacity(gates: Sequence[Tensor], used: Sequence[Tensor]) -> Tensor:
    """The part of the units still free that the gates [U] of all layers take: sum a (1 - u) / sum (1 - u). Eq. 5.

    used: [U] bool, of earlier tasks. Returns a scalar in [0, 1]; 0 where no unit is free.
    """
    free = [~taken for taken in used]
    taken = torch.stack([(gate * left).sum() for gate, left in zip(gates, free, strict=True)]).sum()
    return taken / torch.stack([left.sum() for left in free]).sum().clamp(min=1)


@torch.no_grad()
def compensation(embedding: Tensor, s: float, s_max: float) -> Tensor:
    """Factor [U] that gives the gradient of sigmoid(s e) the shape of that of sigmoid(e), times s_max. Eq. 4:
    s_max (cosh(s e) + 1) / (s (cosh(e) + 1))."""
    steep = torch.cosh((s * embedding).clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)) + 1
    return s_max / s * steep / (torch.cosh(embedding) + 1)
