"""Modules whose structure follows the stream, and modules that need the task label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clx.types import Experience


class DynamicModule(nn.Module):
    """A module that grows or freezes parts of itself for an experience. It never trains there."""

    def adaptation(self, experience: Experience) -> None:
        """Change the structure for experience.classes; reads no samples."""

    def recursive_adaptation(self, experience: Experience) -> None:
        """Adapt this module and every dynamic module inside it."""
        model_adaptation(self, experience)


def model_adaptation(model: nn.Module, experience: Experience) -> None:
    """Adapt every DynamicModule in the model, wherever it is nested, each once, parents before children.

    Children that a parent makes while it adapts are visited too; cycles end.
    """
    visited: set[int] = set()
    waiting: list[nn.Module] = [model]
    while waiting:
        module = waiting.pop()
        if id(module) in visited:
            continue
        visited.add(id(module))
        if isinstance(module, DynamicModule):
            module.adaptation(experience)
        waiting.extend(reversed(list(module.children())))


class MultiTaskModule(DynamicModule):
    """A module whose output depends on the task label of each sample."""

    mask_value: float = -1000.0

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Output [B, K] for samples that are all of one task."""
        raise NotImplementedError

    def forward(self, x: Tensor, task_labels: int | Sequence[int] | Tensor) -> Tensor:
        """Output [B, K]: each sample through its own task; narrower outputs are padded with mask_value."""
        if isinstance(task_labels, int):
            return self.forward_single_task(x, task_labels)
        labels = torch.as_tensor(task_labels, device=x.device)
        parts = [(labels == t, self.forward_single_task(x[labels == t], t)) for t in labels.unique().tolist()]
        width = max(part.shape[1] for _, part in parts)
        out = parts[0][1].new_full((len(x), width), self.mask_value)
        for rows, part in parts:
            out[rows.nonzero(), torch.arange(part.shape[1], device=x.device)] = part
        return out


def needs_task_labels(model: nn.Module) -> bool:
    """Whether any part of the model is a MultiTaskModule."""
    return any(isinstance(module, MultiTaskModule) for module in model.modules())
