"""Modules whose structure follows the stream, and modules that need the task label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clx.types import Experience

if TYPE_CHECKING:
    from clx.model.multi_task import MultiTask


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
    """A module whose output depends on the task label of each sample.

    known_tasks: the labels that training has met, in order; num_columns: K, the largest class met + 1. Whatever
    the form of the labels, outputs are [B, K], with mask_value in columns that a task does not have.
    """

    mask_value: float = -1000.0

    def __init__(self) -> None:
        super().__init__()
        self.known_tasks: list[int] = []
        self.num_columns = 0

    def adaptation(self, experience: Experience) -> None:
        """Take note of tasks and classes; subclasses that override this call it first."""
        self.known_tasks += [task for task in experience.classes_by_task if task not in self.known_tasks]
        self.num_columns = max(self.num_columns, 1 + max(experience.classes, default=-1))

    def get_extra_state(self) -> Tensor:
        """[1 + tasks]: num_columns and known_tasks, so that a grown module loads into a fresh one."""
        return torch.tensor([self.num_columns, *self.known_tasks], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Put back what get_extra_state gave."""
        self.num_columns, *self.known_tasks = state.tolist()

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Output [B, up to K] for samples that are all of one task; columns from 0 on."""
        raise NotImplementedError

    def forward(self, x: Tensor, task_labels: int | Sequence[int] | Tensor | None) -> Any:
        """Each sample through its own task: [B, K] for one label, or one for each sample; for None, a dictionary
        of such outputs for every task known."""
        if task_labels is None:
            return {task: self._padded(self.forward_single_task(x, task)) for task in self.known_tasks}
        if isinstance(task_labels, int):
            return self._padded(self.forward_single_task(x, task_labels))
        labels = torch.as_tensor(task_labels, device=x.device)
        if labels.shape != x.shape[:1]:
            raise ValueError(f"task_labels {tuple(labels.shape)}: give one label for each of the {len(x)} samples")
        return self.forward_mixed(x, labels) if len(labels) else x.new_empty(0, self.num_columns)

    def forward_mixed(self, x: Tensor, task_labels: Tensor) -> Tensor:
        """Output [B, K] for samples of several tasks, in their order."""
        tasks = task_labels.unique().tolist()
        parts = [self.forward_single_task(x[task_labels == task], task) for task in tasks]
        width = max(self.num_columns, *(part.shape[1] for part in parts))
        out = parts[0].new_full((len(x), width), self.mask_value)
        for task, part in zip(tasks, parts, strict=True):
            out[task_labels == task, : part.shape[1]] = part
        return out

    def _padded(self, logits: Tensor) -> Tensor:
        missing = self.num_columns - logits.shape[1]
        return functional.pad(logits, (0, missing), value=self.mask_value) if missing > 0 else logits


def by_task(x: Tensor, task_labels: Tensor | int, answer: Callable[[Tensor, int], Tensor]) -> Tensor:
    """answer(x of one task, its label) for samples x [B, ...] of several tasks, put together in their order.

    task_labels: [B], or one for all.
    """
    labels = torch.as_tensor(task_labels, device=x.device).expand(len(x))
    tasks, which = labels.unique(return_inverse=True)
    places = [(which == n).nonzero().squeeze(1) for n in range(len(tasks))]
    parts = [answer(x[place], task) for place, task in zip(places, tasks.tolist(), strict=True)]
    return torch.cat(parts)[torch.cat(places).argsort()]


def needs_task_labels(model: nn.Module) -> bool:
    """Whether any part of the model is a MultiTaskModule."""
    return any(isinstance(module, MultiTaskModule) for module in model.modules())


def as_multitask(model: nn.Module, classifier_name: str) -> MultiTask:
    """The model with a MultiHeadClassifier instead of its classifier, which becomes the head of task 0.

    classifier_name: the attribute that holds it, a Linear or a Sequential that ends in one. The model is
    wrapped, not copied. Raises ValueError where there is no such Linear, or task labels are needed already.
    """
    from clx.model.multi_task import MultiTask  # noqa: PLC0415 - its heads are MultiTaskModules of this file

    return MultiTask(model, classifier_name)
