"""Riemannian walk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from clx.model.base import Model
from clx.regularizer.quadratic import grown
from clx.regularizer.si import SI
from clx.types import Batch, Experience


class RWalk(SI):
    """weight / 2 * sum_i (F_i + s_i) (theta_i - theta*_i)^2. Chaudhry et al. 2018, arXiv:1801.10112, Eq. 6-8.

    lambda -> weight / 2; alpha -> alpha, Delta t -> delta_t (steps), epsilon -> damping. Every delta_t steps, g being
    the batch's gradient without this penalty's own: F <- alpha mean(g^2) + (1 - alpha) F, and s grows by
    -sum(g dtheta) / (F (theta - theta_before)^2 / 2 + epsilon) where that is positive. After an experience s is halved,
    which averages what it was and what was added (the first time it is not); F and s are each divided by their
    largest value over all parameters. Equals finetune at weight 0. Differs from the paper: no exemplars (join
    buffer and strategy=er for them); F is of the gradient's mean over a batch, and averaged every delta_t steps
    instead of every step, as the authors' later code has it.
    """

    steps: Tensor

    def __init__(self, weight: float, *, alpha: float, delta_t: int, damping: float) -> None:
        super().__init__(weight, damping=damping, clip=None, head=True)
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha {alpha} is outside (0, 1]; it is the share of the newest gradients in the Fisher")
        if delta_t < 1:
            raise ValueError(f"delta_t {delta_t} < 1; it counts steps")
        self.alpha, self.delta_t = alpha, delta_t
        self.register_buffer("steps", torch.zeros(()))  # since the last update

    def adaptation(self, model: Model, experience: Experience) -> None:
        super().adaptation(model, experience)
        for key, parameter in zip(self.names.values(), self.held()[0], strict=True):
            for kind in ("fisher", "score"):
                old = getattr(self, f"{kind}:{key}", None)
                self.register_buffer(f"{kind}:{key}", grown(old, parameter))
            self.register_buffer(f"squares:{key}", torch.zeros_like(parameter, requires_grad=False))
            self.register_buffer(f"start:{key}", parameter.detach().clone())

    @torch.no_grad()
    def after_backward(self, model: Model, batch: Batch) -> None:
        super().after_backward(model, batch)
        self.steps.add_(1)
        parameters, *beside = self.held("squares", "pull")
        reached = {n: parameter.grad for n, parameter in enumerate(parameters) if parameter.grad is not None}
        if not reached:
            return
        gradients = tuple(reached.values())
        squares, pull = ([kind[n] for n in reached] for kind in beside)
        if self.active:  # the loss's gradient alone, without this penalty's
            gradients = torch._foreach_sub(gradients, pull, alpha=self.weight)
        torch._foreach_addcmul_(squares, gradients, gradients)

    def after_step(self, model: Model, batch: Batch) -> None:
        super().after_step(model, batch)
        if (batch.clock.step + 1) % self.delta_t == 0:
            self.update()

    @torch.no_grad()
    def update(self) -> None:
        """The Fisher and the score by what the steps since the last update say; then start counting anew."""
        parameters, squares, fisher, path, score, start = self.held("squares", "fisher", "path", "score", "start")
        torch._foreach_div_(squares, self.steps)
        torch._foreach_mul_(fisher, 1 - self.alpha)
        torch._foreach_add_(fisher, squares, alpha=self.alpha)
        distance = torch._foreach_sub(parameters, start)
        torch._foreach_mul_(distance, distance)
        torch._foreach_mul_(distance, fisher)
        torch._foreach_mul_(distance, 0.5)
        torch._foreach_add_(distance, self.damping)
        torch._foreach_div_(path, distance)
        torch._foreach_clamp_min_(path, 0)
        torch._foreach_add_(score, path)
        torch._foreach_zero_([*squares, *path, self.steps])
        torch._foreach_copy_(start, parameters)

    @torch.no_grad()
    def after_task(self, model: Model, experience: Experience, batches: Iterable[Batch]) -> None:
        if self.steps > 0:
            self.update()
        _, importance, fisher, score = self.held("importance", "fisher", "score")
        if experience.index > 0:
            torch._foreach_mul_(score, 0.5)
        torch._foreach_zero_(importance)
        for parts in (fisher, score):
            torch._foreach_add_(importance, torch._foreach_div(parts, largest(parts)))
        self.set_anchor()


def largest(tensors: Sequence[Tensor]) -> Tensor:
    """The largest element of all, a scalar above 0."""
    tops = [tensor.max() for tensor in tensors if tensor.numel()]
    return torch.stack(tops).max().clamp(min=torch.finfo(tops[0].dtype).tiny)
