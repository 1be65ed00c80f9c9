"""Losses of PODNet: pooled maps held to the teacher's, and classes held apart by a margin.

Douillard et al. 2020, arXiv:2004.13513. Shapes: B samples, C channels, H x W places, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize


def pod_spatial(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """How far the pooled maps of the student are from the teacher's, stage by stage: the mean distance, in [0, 2].

    Eq. 4-6: the squares of each map [B, C, H, W] are summed over its lines and over its columns; both, as one vector of
    length 1. The distance is not squared, as in the authors' code. Returns a scalar, mean over stages and B.
    """
    pairs = zip(map(pooled, student), map(pooled, teacher), strict=True)
    return torch.stack([(mine - known).norm(dim=1).mean() for mine, known in pairs]).mean()


def pooled(maps: Tensor) -> Tensor:
    """maps [B, C, H, W] -> [B, C (H + W)] of length 1."""
    squares = maps.square()
    return normalize(torch.cat((squares.sum(3).flatten(1), squares.sum(2).flatten(1)), 1), dim=1)


def margin_nca(similarities: Tensor, y: Tensor, scale: Tensor, margin: float) -> Tensor:
    """max(0, -log(exp(scale (s_y - margin)) / sum over the other classes of exp(scale s))).

    Eq. 9, eta -> scale, delta -> margin; Movshovitz-Attias et al. 2017. similarities [B, K]; y [B] classes. Returns a
    scalar in nats, mean over B; 0 where there is one class. The margin gives the scale no gradient: before classes are
    apart it would be the larger part, and pull the scale below 0, where every answer turns round.
    """
    own = similarities.gather(1, y.unsqueeze(1)).squeeze(1)
    if similarities.shape[1] == 1:
        return 0.0 * own.sum()
    others = (scale * similarities).scatter(1, y.unsqueeze(1), -torch.inf).logsumexp(1)
    return (others - scale * own + scale.detach() * margin).clamp(min=0).mean()
