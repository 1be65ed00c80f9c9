"""Momentum and its like, kept from one experience to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, dict[str, Any]]  # parameter name -> what the optimizer keeps of it


class OptimizerMemory:
    """State of each phase's optimizer by parameter name; rows that have grown since start at zero."""

    def __init__(self) -> None:
        self.phases: dict[str, State] = {}

    def save(self, phase: str, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Keep the optimizer's state when its phase is over."""
        names = {id(p): name for name, p in model.named_parameters()}
        kept = {names[id(p)]: dict(state) for p, state in optimizer.state.items() if id(p) in names}
        self.phases[phase] = self.phases.get(phase, {}) | kept

    def restore(self, phase: str, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Hand the state back to a new optimizer of that phase; parameters it never had start afresh."""
        known = self.phases.get(phase, {})
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in model.named_parameters():
            if id(parameter) in mine and name in known:
                optimizer.state[parameter] = {k: _fitted(v, parameter) for k, v in known[name].items()}


def _fitted(value: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor) or value.dim() != parameter.dim() or value.shape == parameter.shape:
        return value
    fresh = value.new_zeros(parameter.shape)
    fresh[tuple(slice(size) for size in value.shape)] = value
    return fresh
