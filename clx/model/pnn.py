"""Progressive neural networks: a column for each task, with lateral connections from the columns before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from clx.model.base import Model
from clx.model.dynamic import MultiTaskModule
from clx.model.head.multi_head import MultiHeadClassifier
from clx.types import Experience

Kind = Literal["mlp", "linear"]


class Adapter(nn.Module):
    """What a layer takes from the same layer of all earlier columns: k of them, `width` units each.

    mlp: U relu(V [scale_1 h_1, ..., scale_k h_k]), the scales learned; linear: the sum of U_j h_j.
    """

    def __init__(self, kind: Kind, k: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(k, 1)) if kind == "mlp" else None
        self.inner = nn.Linear(k * width, width) if kind == "mlp" else None
        self.outer = nn.Linear(width if kind == "mlp" else k * width, width, bias=False)

    def forward(self, earlier: Sequence[Tensor]) -> Tensor:
        """k tensors [B, width] -> [B, width]."""
        h = torch.stack(tuple(earlier), 1)  # [B, k, width]
        if self.scale is None or self.inner is None:
            return self.outer(h.flatten(1))
        return self.outer(relu(self.inner((self.scale * h).flatten(1))))


class Column(nn.Module):
    """The layers of one task and, from the second column on, an adapter into each layer but the first, and out."""

    def __init__(self, position: int, num_layers: int, inputs: int, width: int, kind: Kind) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width if level else inputs, width) for level in range(num_layers))
        self.adapters = nn.ModuleList(Adapter(kind, position, width) for _ in range(num_layers if position else 0))


class PNN(MultiTaskModule, Model):  # type: ignore[misc]  # forward answers None with a dictionary, as its parent does
    """Rusu et al. 2016, arXiv:1606.04671. Layer i: h_i = relu(W_i h_{i-1} + adapter(earlier columns' h_{i-1})).

    num_layers: hidden layers of a column; input_size: values of one input (in_features elsewhere);
    hidden_features_per_column: units of each layer; adapter: mlp or linear. Columns that exist are frozen when an
    experience brings a new task; a task that comes again trains its head alone. Needs task labels.
    Differs from the paper: what the output layer takes from earlier columns is added to the features before it,
    which a head with at most as many classes as features can express as well; no dropout of lateral connections.
    """

    task_features = True

    def __init__(
        self,
        num_layers: int = 1,
        input_size: int = 28 * 28,
        hidden_features_per_column: int = 100,
        adapter: Kind = "mlp",
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers {num_layers} < 1; a column needs a layer")
        if hidden_features_per_column < 1:
            raise ValueError(f"hidden_features_per_column {hidden_features_per_column} < 1")
        if adapter not in ("mlp", "linear"):
            raise ValueError(f"adapter {adapter!r} is not one of mlp, linear")
        self.num_layers, self.input_size, self.adapter = num_layers, input_size, adapter
        self.feature_dim = hidden_features_per_column
        self.columns = nn.ModuleList()  # in the order of known_tasks
        self.register_buffer("num_frozen", torch.tensor(0))  # the first columns, which are trained no more
        self.num_frozen: Tensor
        self.classifier: nn.Module = MultiHeadClassifier(hidden_features_per_column)
        self.register_buffer("like", torch.empty(0), persistent=False)  # of the device and dtype of new columns
        self.like: Tensor

    def adaptation(self, experience: Experience) -> None:
        super().adaptation(experience)
        if len(self.columns) < len(self.known_tasks):
            self.num_frozen.fill_(len(self.columns))
            self.columns.requires_grad_(False)
        self._make_columns(len(self.known_tasks))

    def _make_columns(self, count: int) -> None:
        for position in range(len(self.columns), count):
            fresh = Column(position, self.num_layers, self.input_size, self.feature_dim, self.adapter)
            self.columns.append(fresh.to(self.like.device, self.like.dtype).train(self.training))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Make the columns of what is loaded: a grown net loads into a fresh one. (torch's hook for modules.)"""
        start = f"{prefix}columns."
        names = {key.removeprefix(start).split(".")[0] for key in state_dict if key.startswith(start)}
        self._make_columns(len(names))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.columns[: int(self.num_frozen)].requires_grad_(False)

    def features(self, x: Tensor, task_labels: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """x [B, ...] -> features [B, hidden_features_per_column] of each sample's own column."""
        if task_labels is None:
            raise ValueError("task_labels None: a progressive net has features for each task; give the labels")
        if isinstance(task_labels, int):
            return self._columns_up_to(x, self._position(task_labels))[-1]
        labels = torch.as_tensor(task_labels, device=x.device)
        present, which = labels.unique(return_inverse=True)
        positions = [self._position(task) for task in present.tolist()]
        features = self._columns_up_to(x, max(positions))
        mine = torch.stack([features[position] for position in positions])  # [tasks, B, D]
        return mine[which, torch.arange(len(x), device=x.device)]

    def _position(self, task: int) -> int:
        if task not in self.known_tasks:
            raise ValueError(f"task_labels {task}: no column was made for that task; there are {self.known_tasks}")
        return self.known_tasks.index(task)

    def _columns_up_to(self, x: Tensor, last: int) -> list[Tensor]:
        """The features [B, D] of columns 0 .. last; each column's activations serve all later ones."""
        columns: list[Any] = list(self.columns[: last + 1])
        h = [x.flatten(1)] * len(columns)
        for level in range(self.num_layers):
            sums = [column.layers[level](h[k]) for k, column in enumerate(columns)]
            lateral = [column.adapters[level - 1](h[:k]) if level and k else None for k, column in enumerate(columns)]
            h = [relu(s if a is None else s + a) for s, a in zip(sums, lateral, strict=True)]
        return [h[k] + column.adapters[-1](h[:k]) if k else h[0] for k, column in enumerate(columns)]

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """x [B, ...] of one task -> logits [B, K]."""
        return self.classify(self.features(x, task_label), task_label)

    def forward_mixed(self, x: Tensor, task_labels: Tensor) -> Tensor:
        """x [B, ...] of several tasks -> logits [B, K], every column run once."""
        return self.classify(self.features(x, task_labels), task_labels)
