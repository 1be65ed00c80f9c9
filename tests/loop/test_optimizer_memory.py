"""What an optimizer keeps, from one experience to the next."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from clx.loop.optimizer_memory import OptimizerMemory
from clx.model.head.growth import grow_linear


def step(optimizer: torch.optim.Optimizer, layer: nn.Linear, gradient: float) -> None:
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()


def momentum(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> list[Any]:
    return optimizer.state[parameter]["momentum_buffer"].tolist()


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, 2))


def test_old_rows_go_on_and_new_rows_start_at_zero(model: nn.Sequential) -> None:
    """Gradients 4, then 1, momentum 0.5: old rows 0.5 x 4 + 1 = 3, the new row 0.5 x 0 + 1 = 1."""
    memory, first = OptimizerMemory(), sgd(model)
    step(first, model[0], 4.0)
    memory.save("train", first, model)
    model[0] = grow_linear(model[0], 3)
    second = sgd(model)
    memory.restore("train", second, model)
    assert momentum(second, model[0].weight) == [[4.0], [4.0], [0.0]]
    step(second, model[0], 1.0)
    assert momentum(second, model[0].weight) == [[3.0], [3.0], [1.0]]
    assert momentum(second, model[0].bias) == [3.0, 3.0, 1.0]


def test_counts_are_kept_as_they_are(model: nn.Sequential) -> None:
    """Adam after 2 steps of gradient 1: first moment 1 - 0.9^2 = 0.19, second 1 - 0.99^2 = 0.0199, step 2."""
    memory, first = OptimizerMemory(), torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    for _ in range(2):
        step(first, model[0], 1.0)
    memory.save("train", first, model)
    model[0] = grow_linear(model[0], 3)
    second = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    memory.restore("train", second, model)
    state = second.state[model[0].bias]
    assert state["step"].item() == 2
    torch.testing.assert_close(state["exp_avg"], torch.tensor([0.19, 0.19, 0.0]))
    torch.testing.assert_close(state["exp_avg_sq"], torch.tensor([0.0199, 0.0199, 0.0]))


def test_each_phase_has_its_own(model: nn.Sequential) -> None:
    """A phase that never ran starts afresh, and so does a parameter that its phase never had."""
    memory, first = OptimizerMemory(), torch.optim.SGD([model[0].weight], lr=0.1, momentum=0.5)
    step(first, model[0], 4.0)
    memory.save("train", first, model)
    balance, train = sgd(model), sgd(model)
    memory.restore("balance", balance, model)
    memory.restore("train", train, model)
    assert not balance.state
    assert set(train.state) == {model[0].weight}


def test_a_parameter_outside_the_phase_is_remembered(model: nn.Sequential) -> None:
    """The bias sits a phase out and comes back to what it had; the weight goes on."""
    memory, first = OptimizerMemory(), sgd(model)
    step(first, model[0], 4.0)
    memory.save("train", first, model)
    second = torch.optim.SGD([model[0].weight], lr=0.1, momentum=0.5)
    memory.restore("train", second, model)
    assert set(second.state) == {model[0].weight}
    step(second, model[0], 1.0)
    memory.save("train", second, model)
    third = sgd(model)
    memory.restore("train", third, model)
    assert momentum(third, model[0].weight) == [[3.0], [3.0]]
    assert momentum(third, model[0].bias) == [4.0, 4.0]
