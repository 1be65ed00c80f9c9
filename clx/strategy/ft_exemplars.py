"""Fine-tuning on new data and exemplars together."""

from __future__ import annotations

from collections.abc import Iterator

from clx.strategy.finetune import Finetune
from clx.types import Experience, Phase


class FTExemplars(Finetune):
    """The stored samples join the data of an experience before it starts, and are chosen anew when it is over.

    "FT-E" of Masana et al. 2020, arXiv:2010.15277, Sec. 5.
    Equals finetune at buffer.capacity=0.
    """

    needs_buffer = "herding"

    def phases(self, experience: Experience) -> Iterator[Phase]:
        assert self.buffer is not None
        yield Phase(name="train", data=experience.data + self.buffer.samples())

    def after_task(self, experience: Experience) -> None:
        assert self.buffer is not None
        self.buffer.fill(experience, self.embed)
