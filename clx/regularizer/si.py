"""Synaptic intelligence."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from clx.model.base import Model
from clx.regularizer.quadratic import QuadraticPenalty
from clx.types import Batch, Experience


class SI(QuadraticPenalty):
    """weight / 2 * sum_i Omega_i (theta_i - theta*_i)^2. Zenke et al. 2017, arXiv:1703.04200, Eq. 4-5.

    c -> weight / 2; xi -> damping. The path integral adds -g (theta_new - theta_old) at each step, g being the
    gradient without this penalty's own; Omega_i grows by it over (theta - theta*)^2 + xi when an experience ends.
    clip: the largest Omega, None = no limit (AR1 has 0.001); head: whether the classifier is held too (AR1: no).
    Equals finetune at weight 0. Differs from the paper: parts of Omega that come out negative count as 0.
    """

    def __init__(self, weight: float, *, damping: float, clip: float | None, head: bool) -> None:
        super().__init__(weight)
        if damping <= 0:
            raise ValueError(f"damping {damping} <= 0; it keeps the division finite")
        if clip is not None and clip <= 0:
            raise ValueError(f"clip {clip} <= 0; null sets no limit")
        self.damping, self.clip, self.head = damping, clip, head

    @torch.no_grad()
    def adaptation(self, model: Model, experience: Experience) -> None:
        before = {name: getattr(self, f"anchor:{key}").shape for name, key in self.names.items()}
        super().adaptation(model, experience)
        if not self.head:
            self.hold(model, [name for name in self.names if not name.startswith("classifier.")])
        for (name, key), parameter, anchor in zip(self.names.items(), *self.held("anchor"), strict=True):
            fresh = parameter.detach().clone()  # a new row's way begins where it was made
            old = tuple(slice(size) for size in before.get(name, (0,) * parameter.dim()))
            fresh[old] = anchor[old]
            anchor.copy_(fresh)
            self.register_buffer(f"path:{key}", torch.zeros_like(fresh))
            self.register_buffer(f"previous:{key}", torch.zeros_like(fresh))

    @torch.no_grad()
    def after_backward(self, model: Model, batch: Batch) -> None:
        parameters, previous = self.held("previous")
        torch._foreach_copy_(previous, parameters)

    @torch.no_grad()
    def after_step(self, model: Model, batch: Batch) -> None:
        parameters, *beside = self.held("previous", "path", "pull")
        # A parameter that the objective did not reach stayed where it was.
        reached = {n: parameter.grad for n, parameter in enumerate(parameters) if parameter.grad is not None}
        if not reached:
            return
        parameters, previous, path, pull = ([kind[n] for n in reached] for kind in (parameters, *beside))
        torch._foreach_sub_(previous, parameters)  # the way, backwards: so the product is added
        torch._foreach_addcmul_(path, list(reached.values()), previous)
        if self.active:  # the loss's gradient alone, without this penalty's
            torch._foreach_addcmul_(path, pull, previous, value=-self.weight)

    @torch.no_grad()
    def after_task(self, model: Model, experience: Experience, batches: Iterable[Batch]) -> None:
        for parameter, path, importance, anchor in zip(*self.held("path", "importance", "anchor"), strict=True):
            importance.add_((path / ((parameter - anchor).square() + self.damping)).clamp(min=0))
            if self.clip is not None:
                importance.clamp_(max=self.clip)
            path.zero_()
        self.set_anchor()
