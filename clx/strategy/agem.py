"""Averaged gradient episodic memory."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from clx.buffer.base import Buffer
from clx.gradient import project_half_space
from clx.model.base import Model
from clx.projection import filled_gradients
from clx.strategy.finetune import Finetune
from clx.types import Batch


class AGEM(Finetune):
    """Where the gradient g points against that of a memory batch, r, take out the part along r.

    Chaudhry et al. 2019, arXiv:1812.00420, Algorithm 1, Eq. 11. reference_size: samples of the memory batch
    (256 in the paper). The memory holds as many samples of each class, drawn at random when their experience
    ends. Equals finetune at buffer.capacity 0. Differs from the paper: the share of capacity is per class
    seen so far, so the memory is full from the first experience on, where the paper reserves one for each
    task to come; momentum and weight decay, if set, act after the projection.
    """

    needs_buffer = "equal_random"

    def __init__(self, model: Model, buffer: Buffer, *, reference_size: int) -> None:
        super().__init__(model, buffer)
        if reference_size < 1:
            raise ValueError(f"reference_size {reference_size} < 1; it counts the samples of the memory batch")
        self.reference_size = reference_size

    def after_backward(self, batch: Batch) -> None:
        assert self.buffer is not None
        if batch.clock.experience == 0 or not len(self.buffer):
            return
        trained = [p for p in self.model.parameters() if p.requires_grad]
        gradient = filled_gradients(trained)
        memory = self.buffer.sample(self.reference_size)
        loss = cross_entropy(self.model(memory.x, memory.t), memory.y)
        reference = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
        project_half_space(gradient, reference)
