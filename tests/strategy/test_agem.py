"""Averaged gradient episodic memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from clx.buffer.equal_random import EqualRandom
from clx.model.dynamic import model_adaptation
from clx.strategy.agem import AGEM
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Samples


def batch(x: list[list[float]], y: list[int], *, experience: int = 1, task: int = 0) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.full((len(y),), task), raw, clock=Clock(experience=experience))


def remember(strategy: AGEM, memory: Batch) -> None:
    samples = Samples(memory.x, memory.y, memory.t)
    strategy.after_task(Experience(index=0, classes=tuple(memory.y.unique().tolist()), train=samples))


def gradient(strategy: Finetune, stream: Batch) -> Tensor:
    """All gradients in one vector, zeros where there is none."""
    strategy.zero_grad()
    strategy.observe(stream).terms["ce"].backward()
    strategy.after_backward(stream)
    return flat([p.grad if p.grad is not None else torch.zeros_like(p) for p in strategy.model.parameters()])


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


ZEROS = [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("memory_class", "experience", "expected"),
    [
        (1, 1, [-1 / 6, 1 / 3, 1 / 6, -1 / 3, -1 / 6, 1 / 6]),
        (0, 1, [-1 / 2, 0, 1 / 2, 0, -1 / 2, 1 / 2]),  # g r > 0: as it was
        (1, 0, [-1 / 2, 0, 1 / 2, 0, -1 / 2, 1 / 2]),  # the first experience has no past
    ],
)
def test_projection_by_hand(memory_class: int, experience: int, expected: list[float], make_linear: Any) -> None:
    """Zero weights: p = (1/2, 1/2), and the gradient is (p - one-hot) (x, 1).

    Stream (1, 0) of class 0: g = -1/2, 0 | 1/2, 0 | -1/2, 1/2. Memory (1, 1) of class 1: r = 1/2, 1/2 | -1/2, -1/2 |
    1/2, -1/2. g r = -1 and r r = 3/2, so g + 2/3 r is left.
    """
    strategy = AGEM(make_linear(ZEROS), EqualRandom(4, seed=0, per_class=None), reference_size=4)
    remember(strategy, batch([[1.0, 1.0]], [memory_class]))
    found = gradient(strategy, batch([[1.0, 0.0]], [0], experience=experience))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)


def test_without_a_memory_the_gradient_stays(make_linear: Any) -> None:
    strategy = AGEM(make_linear(ZEROS), EqualRandom(4, seed=0, per_class=None), reference_size=4)
    found = gradient(strategy, batch([[1.0, 0.0]], [0]))
    assert found.tolist() == [-0.5, 0.0, 0.5, 0.0, -0.5, 0.5]


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_projection_over_all_parameters(head: str, make_model: Any) -> None:
    """Eq. 11, g and r being over every parameter of the network: a head that the stream does not use has g = 0, r not.

    The memory has the stream's inputs, its classes 0 1 scored with the sign of 2 3 turned round: so g r < 0.
    """
    model = make_model(head)
    for task, classes in enumerate([(0, 1), (2, 3)]):
        by_task = {task: classes} if head == "multi_head" else {0: classes}
        model_adaptation(model, Experience(index=task, classes=classes, classes_by_task=by_task))
    weights = [p for p in model.classifier.parameters() if p.dim() == 2]
    with torch.no_grad():
        weights[0][:2] = -weights[-1][-2:]
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(1)).tolist()
    stream = batch(x, [2, 3, 3, 3], task=int(head == "multi_head"))
    memory = batch(x, [0, 1, 1, 1])
    strategy = AGEM(model, EqualRandom(6, seed=0, per_class=None), reference_size=6)
    g, r = gradient(strategy, stream), gradient(strategy, memory)
    assert g @ r < -0.1
    remember(strategy, memory)
    projected = gradient(strategy, stream)
    torch.testing.assert_close(projected, g - (g @ r) / (r @ r) * r)
    assert abs(float(projected @ r)) < 1e-5


def test_the_memory_is_level(make_linear: Any, make_experience: Any) -> None:
    """Nothing during the experience; 5 places over 2 classes, then over 3."""
    strategy, shares = AGEM(make_linear(ZEROS), EqualRandom(5, seed=0, per_class=None), reference_size=4), []
    strategy.after_step(batch(ZEROS, [0, 1]), strategy.observe(batch(ZEROS, [0, 1])))
    assert len(strategy.buffer) == 0
    for index, counts in enumerate(({0: 9, 1: 9}, {2: 9})):
        strategy.after_task(make_experience(index, counts))
        shares.append(Counter(strategy.buffer.samples().y.tolist()))
    assert shares == [{0: 3, 1: 2}, {0: 2, 1: 2, 2: 1}]


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_capacity_0_is_finetune(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    neutral, projected = (
        train_tiny(
            lambda model, c=capacity: AGEM(model, EqualRandom(c, seed=0, per_class=None), reference_size=8), head
        )
        for capacity in (0, 8)
    )
    torch.testing.assert_close(neutral, plain, rtol=0, atol=0)
    assert not torch.equal(projected["body.1.weight"], plain["body.1.weight"])


def test_what_is_refused(make_linear: Any, make_benchmark: Any) -> None:
    buffer = EqualRandom(4, seed=0, per_class=None)
    with pytest.raises(ValueError, match=r"^reference_size 0 < 1"):
        AGEM(make_linear(ZEROS), buffer, reference_size=0)
    assert AGEM(make_linear(ZEROS), buffer, reference_size=1).conflict(make_benchmark()) is None
    reason = AGEM(make_linear(ZEROS), None, reference_size=1).conflict(make_benchmark())
    assert reason is not None
    assert reason.endswith("set buffer=equal_random")
