"""Fine-tuning on new data and exemplars together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.buffer.herding import Herding
from clx.buffer.random import Random
from clx.buffer.reservoir import Reservoir
from clx.loop.trainer import Trainer
from clx.strategy.finetune import Finetune
from clx.strategy.ft_exemplars import FTExemplars

BUFFERS = {
    "herding": lambda capacity: Herding(capacity, 0, per_class=None),
    "random": lambda capacity: Random(capacity, 0),
    "reservoir": lambda capacity: Reservoir(capacity, 0, offer="first_epoch"),
}


@pytest.mark.parametrize("make_buffer", BUFFERS.values(), ids=BUFFERS)
def test_stored_samples_are_merged_before_an_experience_and_chosen_after_it(
    make_buffer: Any, make_benchmark: Any, make_model: Any
) -> None:
    """16 new samples each; the phase has those and the 6 that were stored before; the buffer is filled once."""
    stream = make_benchmark().train
    strategy, sizes = FTExemplars(make_model(), make_buffer(6)), []
    trainer = Trainer(strategy, device="cpu")
    for experience in stream:
        trainer.attach(stream.transform)
        trainer.grow(experience)
        (phase,) = strategy.phases(experience)
        sizes.append(len(phase.data))
        stored = strategy.buffer.samples()
        if len(stored):
            assert torch.equal(phase.data.raw[16:], stored.raw)
        trainer.train_experience(experience)
    assert sizes == [16, 22, 22]


def test_equals_finetune_without_room(train_tiny: Any) -> None:
    plain = train_tiny(Finetune)
    merged = train_tiny(lambda model: FTExemplars(model, Herding(0, 0, per_class=None)))
    assert all(torch.equal(plain[name], merged[name]) for name in plain)
