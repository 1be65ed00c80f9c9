"""One linear head for each task, chosen by the task label of each sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clx.model.dynamic import MultiTaskModule
from clx.model.head.growth import grow_linear
from clx.types import Experience


class MultiHeadClassifier(MultiTaskModule):
    """A Linear for each task label; logits are scattered into the columns of the task's classes.

    Columns of other tasks hold mask_value. initial_out_features: units that a head starts with; those beyond
    the task's classes have no column.
    """

    def __init__(self, in_features: int, initial_out_features: int = 2, mask_value: float = -1000) -> None:
        super().__init__()
        self.in_features, self.initial_out_features = in_features, initial_out_features
        self.mask_value = mask_value
        self.classifiers = nn.ModuleDict()
        self.columns: dict[int, list[int]] = {}  # task label -> the column of each of its head's rows
        self.register_buffer("like", torch.empty(0), persistent=False)  # of the device and dtype of new heads
        self.like: Tensor

    def adaptation(self, experience: Experience) -> None:
        super().adaptation(experience)
        for task, classes in experience.classes_by_task.items():
            columns = self.columns.setdefault(task, [])
            columns.extend(c for c in classes if c not in columns)
            self._make_head(str(task), len(columns))

    def get_extra_state(self) -> Tensor:
        """[rows, 2]: task label and column of every class, which a fresh module cannot read off the heads' shapes."""
        pairs = [(task, column) for task, columns in self.columns.items() for column in columns]
        return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)

    def set_extra_state(self, state: Tensor) -> None:
        """Put back what get_extra_state gave."""
        self.columns = {}
        for task, column in state.tolist():
            self.columns.setdefault(task, []).append(column)
        self.known_tasks = list(self.columns)
        self.num_columns = 1 + int(state[:, 1].max()) if len(state) else 0

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Make the heads of what is loaded, in their widths: a grown module loads into a fresh one. (torch's hook.)"""
        for key, weight in state_dict.items():
            if key.startswith(f"{prefix}classifiers.") and key.endswith(".weight"):
                self._make_head(key.removeprefix(f"{prefix}classifiers.").removesuffix(".weight"), len(weight))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _make_head(self, name: str, width: int) -> None:
        if name not in self.classifiers:
            like = self.like
            fresh = nn.Linear(self.in_features, self.initial_out_features, device=like.device, dtype=like.dtype)
            self.classifiers[name] = fresh.train(self.training)
        self.classifiers[name] = grow_linear(self._head(int(name)), width)

    def _head(self, task: int) -> nn.Linear:
        if str(task) not in self.classifiers:
            raise ValueError(f"task_labels {task}: no head was made for that task; there are {sorted(self.columns)}")
        head = self.classifiers[str(task)]
        assert isinstance(head, nn.Linear)
        return head

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """x [B, in_features] of one task -> logits [B, K]."""
        columns = self.columns.get(task_label, [])
        logits = self._head(task_label)(x)[:, : len(columns)]
        out = logits.new_full((len(x), self.num_columns), self.mask_value)
        return out.index_copy(1, torch.tensor(columns, device=x.device), logits)

    def forward_mixed(self, x: Tensor, task_labels: Tensor) -> Tensor:
        """x [B, in_features] -> logits [B, K], in one product with the heads that the batch needs."""
        tasks, which = task_labels.unique(return_inverse=True)
        present = tasks.tolist()
        if len(present) == 1:
            return self.forward_single_task(x, present[0])
        heads = [self._head(task) for task in present]
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads])
        scores = functional.linear(x, weight, bias)
        scores = torch.cat((scores, scores.new_full((len(x), 1), self.mask_value)), 1)
        idle = len(weight)  # the last column of scores: what absent classes get
        table = torch.full((len(present), self.num_columns), idle)
        start = 0
        for row, (task, head) in enumerate(zip(present, heads, strict=True)):
            columns = self.columns[task]
            table[row, columns] = torch.arange(start, start + len(columns))
            start += head.out_features
        return scores.gather(1, table.to(x.device)[which])
