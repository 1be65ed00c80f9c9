"""Teachers: copies of a model that nothing can move."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from clx.model.base import Model


class Frozen(nn.Module):
    """A model that stays as it is: always in eval mode (BatchNorm statistics included), never a gradient.

    It can be a child of what is trained: train() does not reach it.
    """

    model: Model

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.model(*args, **kwargs)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Of the frozen model."""
        return self.model.features(x)

    @torch.no_grad()
    def classify(self, features: Tensor, task_labels: Tensor | int | None = None) -> Tensor:
        """Of the frozen model."""
        return self.model.classify(features, task_labels)


def frozen_copy(model: Model) -> Frozen:
    """A teacher: the model as it is now."""
    return Frozen(copy.deepcopy(model))
