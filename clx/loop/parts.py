"""Everything that training changes, to be written or gone back to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from clx.runtime import seed as seeding

if TYPE_CHECKING:
    from clx.loop.trainer import Trainer


def parts(trainer: Trainer) -> dict[str, Any]:
    """Tensors and numbers of strategy, regularizers, buffer, kept optimizer states and random generators, as they are:
    training goes on changing them."""
    buffer, memory = trainer.strategy.buffer, trainer.memory
    return {
        "strategy": trainer.strategy.state_dict(),
        "regularizers": trainer.regularizers.state_dict(),
        "buffer": None if buffer is None else buffer.state_dict(),
        "memory": None if memory is None else memory.phases,
        "random": seeding.state(),
    }


def load_parts(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Put back what parts() gave; every shape must be there already."""
    trainer.strategy.load_state_dict(saved["strategy"], strict=True)
    trainer.regularizers.load_state_dict(saved["regularizers"], strict=True)
    if trainer.strategy.buffer is not None:
        trainer.strategy.buffer.load_state_dict(saved["buffer"])
    if trainer.memory is not None:
        trainer.memory.phases = copied(saved["memory"])
    seeding.load_state(saved["random"])


def copied(value: Any) -> Any:
    """The same with tensors of their own, so that training does not change them."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value
