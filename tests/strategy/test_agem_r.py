"""A-GEM with a reservoir: the recipe, and what its memory holds while an experience is being trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.buffer.reservoir import Reservoir
from clx.config import compose, plain
from clx.strategy.agem import AGEM
from clx.types import Batch, Clock


def test_the_recipe_is_agem_with_another_buffer() -> None:
    plain_agem, recipe = (plain(compose([f"strategy={name}"])) for name in ("agem", "agem_r"))
    assert recipe["buffer"]["_target_"] == "clx.buffer.reservoir.Reservoir"
    assert recipe["strategy"] == plain_agem["strategy"]
    assert recipe["strategy"]["reference_size"] == 256
    assert plain(compose(["strategy=agem_r", "buffer=ring"]))["buffer"]["_target_"] == "clx.buffer.ring.Ring"


@pytest.mark.parametrize(
    ("memory_class", "expected"),
    [
        (1, [-1 / 6, 1 / 3, 1 / 6, -1 / 3, -1 / 6, 1 / 6]),
        (0, [-1 / 2, 0, 1 / 2, 0, -1 / 2, 1 / 2]),  # g r > 0: as it was
    ],
)
def test_the_memory_counts_as_soon_as_a_batch_was_trained_on(
    memory_class: int, expected: list[float], make_linear: Any
) -> None:
    """Zero weights, p = (1/2, 1/2); a gradient is (p - one-hot) (x, 1).

    One sample (1, 1) was trained on in this very experience. Stream (1, 0) of class 0: g = -1/2, 0 | 1/2, 0 | -1/2,
    1/2. Of class 1 the sample gives r = 1/2, 1/2 | -1/2, -1/2 | 1/2, -1/2: g r = -1, r r = 3/2, and g + 2/3 r is left.
    """
    strategy = AGEM(make_linear([[0.0, 0.0], [0.0, 0.0]]), Reservoir(4, 0, offer="first_epoch"), reference_size=4)
    clock, task = Clock(experience=1), torch.zeros(1, dtype=torch.int64)
    before, now = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    seen = Batch(before, torch.tensor([memory_class]), task, before, clock=clock)
    strategy.after_step(seen, strategy.observe(seen))
    stream = Batch(now, torch.tensor([0]), task, now, clock=clock)
    strategy.observe(stream).terms["ce"].backward()
    strategy.after_backward(stream)
    found = torch.cat([p.grad.flatten() for p in strategy.model.parameters() if p.grad is not None])
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)
