"""Orthogonal gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor

from clx.buffer.base import Buffer
from clx.data.batches import batches
from clx.model.base import Model
from clx.projection import (
    as_vector,
    filled_gradients,
    logit_gradients,
    new_directions,
    project_out,
    regrown,
    write_vector,
)
from clx.runtime import seed as seeding
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience


class OGD(Finetune):
    """Steps orthogonal to the gradients of the logits of samples of earlier experiences, which hold the logits still.

    Farajtabar et al. 2020, arXiv:1910.07104, Algorithm 1, in its variant OGD-GTL: one gradient for each stored
    sample, of the logit of its true class. num_gradients: samples stored of each experience (200 in the paper), each
    as large as the network. Equals finetune at num_gradients 0.
    Differs from the paper: the orthonormal basis comes from a singular value decomposition for each experience, which
    spans what Gram-Schmidt does; momentum and weight decay, if set, act after the projection.
    """

    basis: Tensor

    def __init__(self, model: Model, buffer: Buffer | None = None, *, num_gradients: int, seed: int) -> None:
        super().__init__(model, buffer)
        if num_gradients < 0:
            raise ValueError(f"num_gradients {num_gradients} < 0; it counts the samples stored of each experience")
        self.num_gradients, self.seed = num_gradients, seed
        self.layout: dict[str, int] = {}  # parameter -> its values, in the order of the basis's columns
        self.register_buffer("basis", torch.zeros(0, 0))  # [num_gradients * experiences, P]; unused rows are zero

    def adaptation(self, experience: Experience) -> None:
        super().adaptation(experience)
        layout = {name: p.numel() for name, p in self.model.named_parameters() if p.requires_grad}
        self.basis = regrown(self.basis, self.layout, layout, self.num_gradients * (experience.index + 1))
        self.layout = layout

    def after_backward(self, batch: Batch) -> None:
        known = self.basis[: self.num_gradients * batch.clock.experience]
        if len(known):
            gradient = filled_gradients(p for p in self.model.parameters() if p.requires_grad)
            write_vector(gradient, project_out(as_vector(gradient), known))

    def after_task(self, experience: Experience) -> None:
        super().after_task(experience)
        start = self.num_gradients * experience.index
        fresh = new_directions(self.gradients(experience), self.basis[:start])
        self.basis[start : start + len(fresh)] = fresh

    def gradients(self, experience: Experience) -> Tensor:
        """The logit gradients [at most num_gradients, P] of samples drawn from the experience."""
        data, draw = experience.data, seeding.generator("ogd", self.seed, experience.index)
        stored = data[torch.randperm(len(data), generator=draw)[: self.num_gradients]]
        found = [self.basis.new_zeros(0, self.basis.shape[1])]
        for task in stored.t.unique().tolist():
            parts = batches(stored[stored.t == task], self.eval_batch_size, self.eval_transform, self.device)
            found += [logit_gradients(self.model, part.x, part.y, task_label=task) for part in parts]
        return torch.cat(found)
