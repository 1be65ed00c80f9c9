"""Class scores by the distance to the mean of each class; nothing in it learns by gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from clx.model.head.closed_form import ClosedFormHead


class NCMClassifier(ClosedFormHead):
    """Nearest class mean: score = -(Euclidean distance to the mean). Mensink et al. 2013, doi:10.1109/TPAMI.2013.83.

    normalize: features and means are scaled to length one. add() takes samples in any order and number;
    set_means() gives the means themselves. Classes without a mean score mask_value, so they never win.
    """

    per_class: ClassVar[tuple[str, ...]] = ("class_means", "counts")
    class_means: Tensor

    def __init__(self, in_features: int, normalize: bool = True, mask_value: float = -1000) -> None:
        super().__init__(in_features)
        self.normalize, self.mask_value = normalize, mask_value
        self.register_buffer("class_means", torch.zeros(0, in_features))  # [K, D], before they are scaled

    @torch.no_grad()
    def add(self, features: Tensor, y: Tensor) -> None:
        """Take features [B, D] of classes y [B] into the means; K is what adaptation made it."""
        if self.normalize:
            features = functional.normalize(features, dim=1)
        more = torch.bincount(y, minlength=len(self.counts))
        sums = torch.zeros_like(self.class_means).index_add_(0, y, features.to(self.class_means.dtype))
        total = (self.counts + more).clamp(min=1).unsqueeze(1)
        self.class_means += (sums - more.unsqueeze(1) * self.class_means) / total
        self.counts += more

    @torch.no_grad()
    def set_means(self, means: Mapping[int, Tensor]) -> None:
        """Replace the means [D] of some classes; each weighs like one sample in what add() brings later."""
        self._widen(1 + max(means, default=-1))
        for column, mean in means.items():
            self.class_means[column], self.counts[column] = mean, 1

    def forward(self, features: Tensor) -> Tensor:
        """features [B, D] -> scores [B, K]."""
        wide = torch.promote_types(features.dtype, torch.float32)  # distances do not exist in half precision
        x, means = features.to(wide), self.class_means.to(wide)
        if self.normalize:
            x, means = functional.normalize(x, dim=1), functional.normalize(means, dim=1)
        return self._masked(-torch.cdist(x, means), self.mask_value).to(features.dtype)
