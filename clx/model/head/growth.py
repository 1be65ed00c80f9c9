"""Linear layers that get more rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SPARE_FROM = 2**20  # bytes: a tensor as large as this grows into half as much spare room, so that it is seldom copied


@torch.no_grad()
def grow_linear(layer: nn.Linear, out_features: int) -> nn.Linear:
    """The layer itself where it is wide enough, else a new one whose first rows are the old ones, bit for bit.

    The two may share their memory: the old layer is not to be trained any more.
    """
    more = out_features - layer.out_features
    if more <= 0:
        return layer
    fresh = nn.Linear(
        layer.in_features, more, layer.bias is not None, device=layer.weight.device, dtype=layer.weight.dtype
    )
    fresh.weight = grow_parameter(layer.weight, fresh.weight)
    if layer.bias is not None:
        fresh.bias = grow_parameter(layer.bias, fresh.bias)
    fresh.out_features = out_features
    return fresh.train(layer.training)


@torch.no_grad()
def grow_parameter(old: Tensor, new: Tensor) -> nn.Parameter:
    """old [K, ...] above new [k, ...], trained where old is; in the spare room behind old where that is enough."""
    shape = (len(old) + len(new), *old.shape[1:])
    size, room = math.prod(shape), old.untyped_storage().nbytes() // old.element_size()
    large = old.numel() * old.element_size() >= SPARE_FROM
    if not large:
        joined = torch.cat((old, new))
    else:
        if hasattr(old, "grown_with_room") and old.storage_offset() == 0 and old.is_contiguous() and size <= room:
            joined = old.as_strided(shape, old.stride()).detach()
        else:
            joined = old.new_empty(size + size // 2)[:size].view(shape)
            joined[: len(old)] = old
        joined[len(old) :] = new
    grown = nn.Parameter(joined, requires_grad=old.requires_grad)
    if large:
        vars(grown)["grown_with_room"] = True  # nobody else's memory lies behind it; copies do not carry this mark
    return grown
