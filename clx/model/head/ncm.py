"""Class scores by the distance to the mean of each class; nothing in it learns by gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from clx.model.dynamic import DynamicModule
from clx.types import Experience


class NCMClassifier(DynamicModule):
    """Nearest class mean: score = -(Euclidean distance to the mean). Mensink et al. 2013, doi:10.1109/TPAMI.2013.83.

    normalize: features and means are scaled to length one. add() takes samples in any order and number;
    set_means() gives the means themselves. Classes without a mean score mask_value, so they never win.
    """

    closed_form = True  # only a strategy that computes the means can use it

    def __init__(self, in_features: int, normalize: bool = True, mask_value: float = -1000) -> None:
        super().__init__()
        self.in_features, self.normalize, self.mask_value = in_features, normalize, mask_value
        self.register_buffer("class_means", torch.zeros(0, in_features))  # [K, D], before they are scaled
        self.register_buffer("counts", torch.zeros(0, dtype=torch.int64))  # [K] samples behind each mean
        self.class_means: Tensor
        self.counts: Tensor

    def adaptation(self, experience: Experience) -> None:
        self._widen(1 + max(experience.classes, default=-1))

    def _widen(self, width: int) -> None:
        missing = max(0, width - len(self.counts))
        self.class_means = functional.pad(self.class_means, (0, 0, 0, missing))
        self.counts = functional.pad(self.counts, (0, missing))

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
        return (-torch.cdist(x, means)).masked_fill(self.counts == 0, self.mask_value).to(features.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take the number of classes of what is loaded. (torch's hook for modules.)"""
        counts = state_dict.get(f"{prefix}counts")
        if counts is not None:
            self.class_means = self.class_means.new_zeros(len(counts), self.in_features)
            self.counts = self.counts.new_zeros(len(counts))
        super()._load_from_state_dict(state_dict, prefix, *rest)
