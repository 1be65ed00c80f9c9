"""One linear head for each task, chosen by the task label of each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clx.model.dynamic import MultiTaskModule
from clx.model.head.growth import grow_linear
from clx.types import Experience


class MultiHeadClassifier(MultiTaskModule):
    """A Linear for each task label; its scores stand in the columns of the task's classes, mask_value in the others.

    initial_out_features: units that a head starts with. A class takes the unit of its own number where that is
    free, else the first free one. masking: units without a class have no column; False puts them into the lowest
    columns that the task lacks. A head without any class (as_multitask) answers with its units as they are.
    """

    def __init__(
        self, in_features: int, initial_out_features: int = 2, masking: bool = True, mask_value: float = -1000
    ) -> None:
        super().__init__()
        self.in_features, self.initial_out_features = in_features, initial_out_features
        self.masking, self.mask_value = masking, mask_value
        self.classifiers = nn.ModuleDict()
        self.units: dict[int, dict[int, int]] = {}  # task label -> class column -> unit of its head
        self.rows: dict[int, int] = {}  # task label -> its row in `places`
        # [tasks, units]: 1 + the column of each unit, 0 = it has none. On the device that new heads are made on.
        self.register_buffer("places", torch.zeros(0, 0, dtype=torch.int64), persistent=False)
        self.register_buffer("like", torch.empty(0), persistent=False)  # of the dtype of new heads
        self.places: Tensor
        self.like: Tensor

    def adaptation(self, experience: Experience) -> None:
        super().adaptation(experience)
        for task, classes in experience.classes_by_task.items():
            units = self.units.setdefault(task, {})
            self._make_head(str(task), 0)
            free = [unit for unit in range(self._head(task).out_features) if unit not in set(units.values())]
            for column in classes:
                if column not in units:
                    unit = column if column in free else free[0] if free else 1 + max(units.values(), default=-1)
                    units[column] = unit
                    free = [other for other in free if other != unit]
            self._make_head(str(task), 1 + max(units.values(), default=-1))
            self._place(task)

    def _place(self, task: int) -> None:
        """Write the columns of a task's units into its row of `places`."""
        units, width = self.units[task], self._head(task).out_features
        row = [0] * width
        for column, unit in units.items():
            row[unit] = 1 + column
        if not self.masking:
            others = iter(column for column in range(len(units) + width) if column not in units)
            row = [place or 1 + next(others) for place in row]
        self.num_columns = max(self.num_columns, *row)
        number = self.rows.setdefault(task, len(self.rows))
        missing = (0, max(0, width - self.places.shape[1]), 0, len(self.rows) - len(self.places))
        self.places = functional.pad(self.places, missing)
        self.places[number, :width] = torch.tensor(row, device=self.places.device)

    def get_extra_state(self) -> Tensor:
        """[classes, 3]: task label, column and unit of every class, which the heads' shapes do not tell."""
        known = [(task, column, unit) for task, units in self.units.items() for column, unit in units.items()]
        return torch.tensor(known, dtype=torch.int64).view(-1, 3)

    def set_extra_state(self, state: Tensor) -> None:
        """Put back what get_extra_state gave."""
        self.units, self.rows, self.places = {}, {}, self.places.new_zeros(0, 0)
        for task, column, unit in state.tolist():
            self.units.setdefault(task, {})[column] = unit
        self.known_tasks = list(self.units)
        self.num_columns = 1 + int(state[:, 1].max()) if len(state) else 0
        for task in self.known_tasks:
            self._place(task)

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
            raise ValueError(f"task_labels {task}: no head was made for that task; there are {sorted(self.units)}")
        head = self.classifiers[str(task)]
        assert isinstance(head, nn.Linear)
        return head

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """x [B, in_features] of one task -> logits [B, K]."""
        scores = self._head(task_label)(x)
        if not self.units.get(task_label):
            return self._padded(scores)
        places = self.places[self.rows[task_label], : scores.shape[1]]
        return self._scattered(scores, places.expand_as(scores))

    def forward_mixed(self, x: Tensor, task_labels: Tensor) -> Tensor:
        """x [B, in_features] -> logits [B, K], in one product with the heads that the batch needs."""
        tasks, which = task_labels.unique(return_inverse=True)
        present: list[int] = tasks.tolist()
        heads = [self._head(task) for task in present]
        if len(present) == 1:
            return self.forward_single_task(x, present[0])
        if not all(self.units.get(task) for task in present):
            return super().forward_mixed(x, task_labels)
        scores = functional.linear(
            x, torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        )
        rows, starts = self._layout(present, [head.out_features for head in heads])
        # Each sample keeps the units of its own head; a row shorter than the widest reads on, into place 0.
        own = (starts[which].unsqueeze(1) + self._counting).clamp(max=scores.shape[1] - 1)
        return self._scattered(scores.gather(1, own), self.places[rows[which]])

    def _layout(self, present: Sequence[int], widths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """For each task present: its row in `places`, and where its units begin among all their scores."""
        starts = [sum(widths[:position]) for position in range(len(widths))]
        rows = [self.rows[task] for task in present]
        both = torch.tensor([rows, starts]).to(self.places.device)
        return both[0], both[1]

    @property
    def _counting(self) -> Tensor:
        return torch.arange(self.places.shape[1], device=self.places.device)

    def _scattered(self, scores: Tensor, places: Tensor) -> Tensor:
        """scores [B, units] into the columns that places [B, units] names; column 0 of the canvas takes the rest."""
        canvas = scores.new_full((len(scores), 1 + self.num_columns), self.mask_value)
        return canvas.scatter(1, places, scores)[:, 1:]
