"""Losses of methods that learn prompts."""

from __future__ import annotations

import torch
from torch import Tensor


def pull(match: Tensor) -> Tensor:
    """Cosine distance of queries to the keys chosen for them, which draws these keys near.

    Wang et al. 2022, arXiv:2112.08654, Eq. 5; arXiv:2204.04799, Eq. 4. match [B, n]: cosines. Returns a scalar, summed
    over n, mean over B.
    """
    return (1 - match).sum(1).mean()


def orthogonality(rows: Tensor) -> Tensor:
    """How far rows are from orthonormal: the squares of B B' - I, their mean over the entries.

    Smith et al. 2023, arXiv:2211.13218, Eq. 7 (L_ortho; a mean as in the authors' code, where the paper has the sum).
    rows [..., M, n] -> scalar, summed over the leading dimensions.
    """
    gap = rows @ rows.mT - torch.eye(rows.shape[-2], device=rows.device, dtype=rows.dtype)
    return gap.square().mean((-2, -1)).sum()
