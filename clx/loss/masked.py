"""Cross-entropy over some of the classes."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional


def masked_cross_entropy(logits: Tensor, y: Tensor, allowed: Tensor) -> Tensor:
    """Cross-entropy as if the head had the allowed classes alone: the others get no gradient.

    logits [B, K]; y [B] classes, allowed ones; allowed, bool: [K], or [B, K] with a set for each sample. Returns a
    scalar in nats, mean over B.
    """
    return functional.cross_entropy(logits.masked_fill(~allowed, -math.inf), y)
