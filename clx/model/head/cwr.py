"""The double memory of CWR*: weights that are trained, and weights that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clx.model.head.incremental import IncrementalClassifier
from clx.types import Experience


class CWRClassifier(IncrementalClassifier):
    """A linear head without bias whose rows are consolidated after each experience. Maltoni & Lomonaco 2019,
    arXiv:1806.08568, Algorithm 2 (CWR+); Lomonaco et al. 2020, arXiv:1907.03799, Algorithm 1 (CWR*).

    classifier: the temporary weights tw; consolidated [K, D]: the kept ones cw; past [K]: samples behind them.
    Between start() and consolidate() the head answers with what is being trained, afterwards with what is kept.
    """

    def __init__(
        self, in_features: int, initial_out_features: int = 2, masking: bool = True, mask_value: float = -1000
    ) -> None:
        super().__init__(in_features, initial_out_features, masking, mask_value)
        self.classifier = nn.Linear(in_features, initial_out_features, bias=False)
        self.register_buffer("consolidated", torch.zeros(initial_out_features, in_features))
        self.register_buffer("past", torch.zeros(initial_out_features))
        self.consolidated: Tensor
        self.past: Tensor

    def adaptation(self, experience: Experience) -> None:
        super().adaptation(experience)
        self._widen(self.classifier.out_features)

    def _widen(self, width: int) -> None:
        more = width - len(self.past)
        if more > 0:
            self.consolidated = torch.cat(
                (self.consolidated, self.consolidated.new_zeros(more, self.consolidated.shape[1]))
            )
            self.past = torch.cat((self.past, self.past.new_zeros(more)))

    @torch.no_grad()
    def start(self, classes: Sequence[int]) -> None:
        """Begin an experience: rows of these classes as they were kept (zero if new), all others zero."""
        index = torch.tensor(list(classes), device=self.past.device)
        self.classifier.weight.zero_()
        self.classifier.weight[index] = self.consolidated[index]

    @torch.no_grad()
    def consolidate(self, counts: Tensor) -> None:
        """End an experience with counts [K] samples of each class: merge what was trained into what is kept.

        For its classes w = tw - mean(tw over all weights of these classes); cw = (cw m + w) / (m + 1) with
        m = sqrt(past / count), so w alone where the class is new.
        """
        counts = counts.to(self.past)
        present = counts > 0
        trained = self.classifier.weight[present]
        memory = (self.past[present] / counts[present]).sqrt().unsqueeze(1)
        self.consolidated[present] = (self.consolidated[present] * memory + trained - trained.mean()) / (memory + 1)
        self.past += counts
        self.classifier.weight.copy_(self.consolidated)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        past = state_dict.get(f"{prefix}past")
        if past is not None:
            self._widen(len(past))
        super()._load_from_state_dict(state_dict, prefix, *rest)
