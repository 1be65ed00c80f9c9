"""Losses that pull features of one class together and push the others away."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def supervised_contrastive(
    anchors: Tensor,
    anchor_y: Tensor,
    others: Tensor,
    other_y: Tensor,
    temperature: float,
    excluded: Tensor | None = None,
) -> Tensor:
    """-log of the share that an anchor's own class has in the similarity to all others, mean over its positives.

    Khosla et al. 2020, arXiv:2004.11362, Eq. 2 (L_out, without its constant factor of temperatures). anchors [A, D],
    others [M, D]: features of length one; anchor_y [A], other_y [M]: classes; excluded, bool [A, M]: what an anchor is
    not compared with (itself). Similarities are dot products over temperature. Returns a scalar in nats, mean over
    the anchors that have a positive; 0 where none has.
    """
    similarity = anchors @ others.T / temperature
    positive = anchor_y.unsqueeze(1) == other_y
    if excluded is not None:
        similarity = similarity.masked_fill(excluded, -math.inf)
        positive = positive & ~excluded
    count = positive.sum(1)
    log_share = similarity - similarity.logsumexp(1, keepdim=True)
    of_positives = torch.where(positive, log_share, 0.0).sum(1) / count.clamp(min=1)
    return -of_positives.sum() / (count > 0).sum().clamp(min=1)
