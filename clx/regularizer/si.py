"""Synaptic intelligence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

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
            self.names = {name: key for name, key in self.names.items() if not name.startswith("classifier.")}
        for name, parameter in model.named_parameters():
            if name in self.names:
                key = self.names[name]
                anchor = getattr(self, f"anchor:{key}")
                fresh = parameter.detach().clone()  # a new row's way begins where it was made
                old = tuple(slice(size) for size in before.get(name, (0,) * parameter.dim()))
                fresh[old] = anchor[old]
                anchor.copy_(fresh)
                self.register_buffer(f"path:{key}", torch.zeros_like(fresh))
                self.register_buffer(f"previous:{key}", torch.zeros_like(fresh))

    @torch.no_grad()
    def after_backward(self, model: Model, batch: Batch) -> None:
        for parameter, previous in self._each(model, "previous"):
            previous.copy_(parameter)

    @torch.no_grad()
    def after_step(self, model: Model, batch: Batch) -> None:
        for parameter, previous, path, importance, anchor in self._each(
            model, "previous", "path", "importance", "anchor"
        ):
            if parameter.grad is None:
                continue
            own = self.weight * importance * (previous - anchor) if self.active else 0
            path.sub_((parameter.grad - own) * (parameter - previous))

    @torch.no_grad()
    def after_task(self, model: Model, experience: Experience, batches: Iterable[Batch]) -> None:
        for parameter, path, importance, anchor in self._each(model, "path", "importance", "anchor"):
            importance.add_((path / ((parameter - anchor).square() + self.damping)).clamp(min=0))
            if self.clip is not None:
                importance.clamp_(max=self.clip)
            path.zero_()
        self.set_anchor(model)

    def _each(self, model: Model, *kinds: str) -> Iterator[list[Tensor]]:
        for name, parameter in model.named_parameters():
            if name in self.names:
                yield [parameter, *(getattr(self, f"{kind}:{self.names[name]}") for kind in kinds)]
