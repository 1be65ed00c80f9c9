"""A spring of the same stiffness on every parameter."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from clx.model.base import Model
from clx.regularizer.quadratic import QuadraticPenalty
from clx.types import Batch, Experience


class L2(QuadraticPenalty):
    """weight / 2 * sum_i (theta_i - theta*_i)^2, theta* being the parameters after the last experience.

    The baseline of EWC's own paper: Kirkpatrick et al. 2017, arXiv:1612.00796, Fig. 2 (F_i = 1 in its Eq. 3);
    lambda -> weight. What is new since then, a class's row for one, is free. Equals finetune at weight 0. Differs
    from the paper: none known.
    """

    @torch.no_grad()
    def after_task(self, model: Model, experience: Experience, batches: Iterable[Batch]) -> None:
        for importance in self.held("importance")[1]:
            importance.fill_(1)
        self.set_anchor()
