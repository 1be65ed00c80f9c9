"""Class scores by angle: every class has an embedding, and only directions count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from clx.model.dynamic import DynamicModule
from clx.types import Experience


class CosineClassifier(DynamicModule):
    """logits = scale * cosine(features, embedding of the class). Hou et al. 2019, "Learning a Unified Classifier
    Incrementally via Rebalancing" (CVPR), Eq. 4.

    blocks: the embeddings [k, D] of each experience with new classes, by the number of embeddings before it, so
    that old and new ones can be trained apart. scale: the first value of the paper's learnable eta, one for all.
    Embeddings start uniform within 1 / sqrt(D). Columns of classes that never came hold mask_value.
    """

    def __init__(self, in_features: int, scale: float = 1.0, mask_value: float = -1000) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale {scale}: must be greater than 0; LUCIR starts at 1")
        self.in_features, self.mask_value = in_features, mask_value
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.blocks = nn.ParameterDict()
        self.register_buffer("columns", torch.zeros(0, dtype=torch.int64))  # of each embedding, block after block
        self.columns: Tensor
        self._measure()

    def _measure(self) -> None:
        order = self.columns.tolist()
        self.num_columns = 1 + max(order, default=-1)
        self.in_order = order == list(range(self.num_columns))  # as in every stream of clx

    def adaptation(self, experience: Experience) -> None:
        known = self.columns.tolist()
        new = [column for column in experience.classes if column not in set(known)]
        if new:
            like, bound = self.scale, self.in_features**-0.5
            fresh = torch.empty(len(new), self.in_features, device=like.device, dtype=like.dtype)
            self.blocks[str(len(known))] = nn.Parameter(fresh.uniform_(-bound, bound))
            self.columns = torch.cat((self.columns, self.columns.new_tensor(new)))
            self._measure()

    def cosine(self, features: Tensor) -> Tensor:
        """features [B, D] -> cosines [B, K] in [-1, 1]; -1 where a class never came."""
        return self._spread(self._cosines(features), -1.0)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, D] -> logits [B, K]."""
        return self._spread(self.scale * self._cosines(features), self.mask_value)

    def _cosines(self, features: Tensor) -> Tensor:
        blocks = list(self.blocks.values()) or [self.scale.new_empty(0, self.in_features)]
        return linear(normalize(features), normalize(torch.cat(blocks)))

    def _spread(self, values: Tensor, elsewhere: float) -> Tensor:
        if self.in_order:
            return values
        return values.new_full((len(values), self.num_columns), elsewhere).index_copy(1, self.columns, values)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Make the blocks of what is loaded: a grown head loads into a fresh one. (torch's hook for modules.)"""
        blocks = f"{prefix}blocks."
        saved = {key.removeprefix(blocks): value for key, value in state_dict.items() if key.startswith(blocks)}
        if {key: value.shape for key, value in saved.items()} != {key: p.shape for key, p in self.blocks.items()}:
            self.blocks = nn.ParameterDict({key: self.scale.new_empty(value.shape) for key, value in saved.items()})
        columns = state_dict.get(f"{prefix}columns", self.columns)
        self.columns = self.columns.new_empty(len(columns))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._measure()
