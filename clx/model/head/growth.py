"""Linear layers that get more rows."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def grow_linear(layer: nn.Linear, out_features: int) -> nn.Linear:
    """The layer itself where it is wide enough, else a new one whose first rows are the old ones, bit for bit."""
    more = out_features - layer.out_features
    if more <= 0:
        return layer
    fresh = nn.Linear(
        layer.in_features, more, layer.bias is not None, device=layer.weight.device, dtype=layer.weight.dtype
    )
    fresh.weight = nn.Parameter(torch.cat((layer.weight, fresh.weight)), requires_grad=layer.weight.requires_grad)
    if layer.bias is not None:
        fresh.bias = nn.Parameter(torch.cat((layer.bias, fresh.bias)), requires_grad=layer.bias.requires_grad)
    fresh.out_features = out_features
    return fresh.train(layer.training)
