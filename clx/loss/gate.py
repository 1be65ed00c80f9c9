"""Which expert knows an input: reconstruction errors, relatedness, and the gate."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = -1000.0  # log of the weight of an expert that is not chosen


def reconstruction_error(target: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error of each sample: target, reconstruction [B, D] -> [B]."""
    return (target - reconstruction).square().mean(1)


def relatedness(own: float, other: float) -> float:
    """1 - (other - own) / own, of mean reconstruction errors on a task's held-out samples: 1 = as good as its own.

    Aljundi et al. 2017 (Expert Gate), arXiv:1611.06194, Eq. 1. own: of the autoencoder of that task; other: of an
    earlier one's. Raises ValueError where own is not positive.
    """
    if not own > 0:
        raise ValueError(f"own {own}: a reconstruction error must be greater than 0")
    return 1 - (other - own) / own


def gate(errors: Tensor, temp: float) -> Tensor:
    """Probabilities [B, T] of T experts: softmax of -errors / temp. Aljundi et al. 2017, Eq. 2.

    errors [B, T]: reconstruction errors, relative to the smallest of each sample, so that temp has no unit.
    """
    least = errors.min(1, keepdim=True).values.clamp(min=torch.finfo(errors.dtype).tiny)
    return torch.softmax(-(errors / least) / temp, 1)


def mixture(logits: Tensor, probabilities: Tensor, k: int) -> Tensor:
    """log of the class probabilities of the k most probable experts, weighted by the gate.

    logits [T, B, K]: -inf in the columns that an expert does not have; probabilities [B, T]. Returns [B, K]. The other
    experts weigh next to nothing, so their classes keep an order of their own, for whoever knows the task.
    """
    kept, chosen = probabilities.topk(k, dim=1)  # [B, k]
    weights = torch.full_like(probabilities, LEAST).scatter(1, chosen, (kept / kept.sum(1, keepdim=True)).log())
    return torch.logsumexp(logits.log_softmax(2).transpose(0, 1) + weights.unsqueeze(2), 1)
