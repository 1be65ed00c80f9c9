"""Orthogonal gradient descent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clx.loop.trainer import Trainer
from clx.strategy.finetune import Finetune
from clx.strategy.ogd import OGD
from clx.types import Batch, Clock, Experience, Samples


def batch(x: list[float], y: int, experience: int) -> Batch:
    raw = torch.tensor([x])
    return Batch(raw, torch.tensor([y]), torch.zeros(1, dtype=torch.int64), raw, clock=Clock(experience=experience))


def experience(index: int, x: list[list[float]], y: list[int]) -> Experience:
    samples = Samples(torch.tensor(x), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64))
    return Experience(index=index, classes=(0, 1), train=samples)


def gradient(strategy: OGD, stream: Batch) -> Tensor:
    strategy.zero_grad()
    strategy.observe(stream).terms["ce"].backward()
    strategy.after_backward(stream)
    return torch.cat([p.grad.flatten() for p in strategy.model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        # Rows of class 0, of class 1, biases. d = (1, 1 | 0, 0 | 1, 0), g d = -1, d d = 3: g + d / 3.
        (1, [-1 / 6, 1 / 3, 1 / 2, 0, -1 / 6, 1 / 2]),
        (0, [-1 / 2, 0, 1 / 2, 0, -1 / 2, 1 / 2]),  # the first experience is free
    ],
)
def test_projection_by_hand(index: int, expected: list[float], make_linear: Any) -> None:
    """Zero weights, p = (1/2, 1/2): stream (1, 0) of class 0 has g = (p - one-hot) (x, 1) = -1/2, 0 | 1/2, 0 | -1/2,
    1/2. The stored sample (1, 1) is of class 0: its logit w0 x + b0 has the gradient x in row 0 and 1 in bias 0."""
    strategy = OGD(make_linear([[0.0, 0.0], [0.0, 0.0]]), num_gradients=3, seed=0)
    for number in range(2):
        strategy.adaptation(experience(number, [[1.0, 1.0]], [0]))
        if number == 0:
            strategy.eval().after_task(experience(number, [[1.0, 1.0]], [0]))
    found = gradient(strategy, batch([1.0, 0.0], 0, index))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)
    assert strategy.basis.shape == (6, 6)
    assert int(strategy.basis.any(1).sum()) == 1


def test_stored_logits_hardly_move(make_benchmark: Any, make_model: Any) -> None:
    """All 16 samples of the first experience stored: a small step of the second leaves their logits where they are to
    first order, by a factor of twenty at least below what the same step does without the projection."""
    moved = {}
    for count in (0, 16):
        benchmark = make_benchmark()
        strategy = OGD(make_model(), num_gradients=count, seed=0)
        trainer = Trainer(strategy, device="cpu", epochs=1, batch_size=8)
        trainer.train(benchmark.train[:1])
        trainer.grow(benchmark.train[1])
        first, second = (e.data for e in benchmark.train[:2])
        x, rows = benchmark.transform.eval(first.raw), torch.arange(len(first))
        before = strategy.eval()(x)[rows, first.y]
        zeros = torch.zeros(len(second), dtype=torch.int64)
        stream = Batch(benchmark.transform.eval(second.raw), second.y, zeros, clock=Clock(experience=1))
        gradient(strategy, stream)
        torch.optim.SGD(strategy.model.parameters(), lr=1e-3).step()
        moved[count] = (strategy(x)[rows, first.y] - before).norm().item()
    assert moved[0] > 20 * moved[16]


def test_the_basis_grows_with_the_head(make_benchmark: Any, make_model: Any) -> None:
    """Three experiences: 4 rows each, orthonormal; rows of the first have zeros where the head had no units yet."""
    strategy = OGD(make_model(), num_gradients=4, seed=0)
    Trainer(strategy, device="cpu", epochs=1, batch_size=8).train(make_benchmark().train)
    basis = strategy.basis
    assert basis.shape == (12, sum(p.numel() for p in strategy.model.parameters()))
    torch.testing.assert_close(basis @ basis.T, torch.eye(12), rtol=0, atol=1e-4)
    blocks = dict(zip(strategy.layout, basis[:4].split(list(strategy.layout.values()), 1), strict=True))
    assert blocks["classifier.classifier.weight"][:, :16].any()
    assert not blocks["classifier.classifier.weight"][:, 16:].any()  # two classes of eight features


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_no_gradient_stored_is_finetune(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    neutral, projected = (
        train_tiny(lambda model, c=count: OGD(model, num_gradients=c, seed=0), head) for count in (0, 8)
    )
    torch.testing.assert_close(neutral, plain, rtol=0, atol=0)
    assert not torch.equal(projected["body.1.weight"], plain["body.1.weight"])


def test_what_is_refused(make_model: Any) -> None:
    with pytest.raises(ValueError, match=r"^num_gradients -1 < 0"):
        OGD(make_model(), num_gradients=-1, seed=0)
