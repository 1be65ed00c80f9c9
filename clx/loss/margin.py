"""Losses that keep the scores of classes apart."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def less_forget(features: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine between a model's features and its teacher's. Hou et al. 2019 (LUCIR), Eq. 6.

    features, teacher: [B, D]. Returns a scalar in [0, 2], mean over B.
    """
    return (1 - functional.cosine_similarity(features, teacher, dim=1)).mean()


def margin_ranking(cosines: Tensor, y: Tensor, num_old: int, k: int, margin: float) -> Tensor:
    """Hinge on how far old samples' own class leads the k hardest new ones. Hou et al. 2019 (LUCIR), Eq. 8.

    cosines [B, K_all], unscaled; y [B] classes; classes below num_old are old. For each sample of an old class:
    max(0, margin - cosine of its class + cosine of a new class) over the k new classes with the largest cosines.
    Returns a scalar, mean over those samples and k; 0 where the batch has none of them.
    """
    own = cosines.gather(1, y.unsqueeze(1))
    hardest = cosines[:, num_old:].topk(k, dim=1).values
    old = (y < num_old).unsqueeze(1)
    return ((margin - own + hardest).clamp(min=0) * old).sum() / (k * old.sum()).clamp(min=1)
