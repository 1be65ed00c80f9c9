"""What every regularizer is."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from clx.model.base import Model
from clx.types import Batch, Experience, Objective


class Regularizer(nn.Module):
    """A term that the loop adds to a strategy's objective, times `weight`; nothing at weight 0.

    It reads the model and writes only itself, so several commute.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight {weight} < 0; a regularizer is added, not taken away")
        self.weight = weight

    def adaptation(self, model: Model, experience: Experience) -> None:
        """Make every tensor whose shape depends on the stream; the model has grown already."""

    def penalty(self, model: Model, batch: Batch, objective: Objective) -> Tensor | None:
        """The term for one batch, a scalar; None where there is nothing to hold on to yet."""
        raise NotImplementedError

    def after_backward(self, model: Model, batch: Batch) -> None:
        """Watch the gradients."""

    def after_step(self, model: Model, batch: Batch) -> None:
        """Watch the step."""

    def after_task(self, model: Model, experience: Experience, batches: Iterable[Batch]) -> None:
        """Take stock; batches: the experience's samples, without augmentation, the model in eval mode."""
