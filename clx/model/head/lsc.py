"""Class scores by the angles to several proxies of each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from clx.model.head.cosine import CosineClassifier
from clx.types import Experience


class LSCClassifier(CosineClassifier):
    """Local similarity classifier: sum over a class's proxies of softmax(cosine) cosine.

    Douillard et al. 2020, arXiv:2004.13513, Eq. 7-8. proxies: of each class (10 in the paper); scale: the first value
    of the learnable eta. blocks: [k * proxies, D] of each experience with k new classes, class after class. With one
    proxy it is the cosine head.
    """

    def __init__(self, in_features: int, proxies: int = 10, scale: float = 1.0, mask_value: float = -1000) -> None:
        super().__init__(in_features, scale, mask_value)
        if proxies < 1:
            raise ValueError(f"proxies {proxies} < 1; the paper takes 10")
        self.proxies = proxies

    @property
    def new(self) -> nn.Parameter:
        """The proxies [k * proxies, D] of the classes that came last."""
        return list(self.blocks.values())[-1]

    def adaptation(self, experience: Experience) -> None:
        before = len(self.columns)
        super().adaptation(experience)
        added = len(self.columns) - before
        if added:  # one embedding of each class is there: more of the same kind
            bound = self.in_features**-0.5
            fresh = self.new.new_empty(added * self.proxies, self.in_features).uniform_(-bound, bound)
            self.blocks[str(before)] = nn.Parameter(fresh)

    def _cosines(self, features: Tensor) -> Tensor:
        blocks = list(self.blocks.values()) or [self.scale.new_empty(0, self.in_features)]
        each = linear(normalize(features), normalize(torch.cat(blocks))).unflatten(1, (-1, self.proxies))
        return (each.softmax(2) * each).sum(2)
