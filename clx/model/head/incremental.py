"""One linear head that gets a unit for every new class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clx.model.dynamic import DynamicModule
from clx.model.head.growth import grow_linear
from clx.types import Experience


class IncrementalClassifier(DynamicModule):
    """Linear in_features -> largest class seen + 1.

    initial_out_features: units before the first experience; masking: units of classes that never came give
    mask_value instead of their score.
    """

    def __init__(
        self, in_features: int, initial_out_features: int = 2, masking: bool = True, mask_value: float = -1000
    ) -> None:
        super().__init__()
        self.masking, self.mask_value = masking, mask_value
        self.classifier = nn.Linear(in_features, initial_out_features)
        self.register_buffer("active_units", torch.zeros(initial_out_features, dtype=torch.bool))
        self.active_units: Tensor

    @torch.no_grad()
    def adaptation(self, experience: Experience) -> None:
        width = max(self.classifier.out_features, max(experience.classes) + 1)
        self.classifier = grow_linear(self.classifier, width)
        active = self.active_units.new_zeros(width)
        active[: len(self.active_units)] = self.active_units
        active[list(experience.classes)] = True
        self.active_units = active
        # Columns that come in order are all active: no mask to apply at each step.
        self.has_idle_units = not bool(active.all())

    has_idle_units = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take the width of what is loaded: a grown head loads into a fresh one. (torch's hook for modules.)"""
        weight, active = (state_dict.get(prefix + name) for name in ("classifier.weight", "active_units"))
        if weight is not None and active is not None:
            self.classifier = grow_linear(self.classifier, len(weight))
            self.active_units = self.active_units.new_zeros(len(active))
            self.has_idle_units = not bool(active.all())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in_features] -> logits [B, K]."""
        logits = self.classifier(x)
        if self.masking and self.has_idle_units:
            logits = logits.masked_fill(~self.active_units, self.mask_value)
        return logits
