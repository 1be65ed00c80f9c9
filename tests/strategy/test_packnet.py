"""PackNet."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.loop.trainer import Trainer
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.mlp import MLP
from clx.strategy.finetune import Finetune
from clx.strategy.packnet import PackNet
from clx.types import Batch, Experience, Objective


def packnet(model: Any, **options: Any) -> PackNet:
    return PackNet(model, **{"prune_fraction": 0.5, "retrain_epochs": None} | options)


def trained(strategy: Finetune, stream: Any, **options: Any) -> Trainer:
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)
    trainer = Trainer(strategy, sgd, device="cpu", epochs=2, batch_size=8, **options)
    trainer.train(stream)
    return trainer


def normalised() -> MLP:
    torch.manual_seed(0)
    model = MLP(2, 16, (12, 12), batch_norm=True)
    model.classifier = MultiHeadClassifier(12)
    return model


def test_pruning_and_one_step_by_hand(make_model: Any) -> None:
    """Of 8 x 16 weights half are handed on as zeros; then nothing moves but the 64 others, by the step."""
    strategy = packnet(make_model("multi_head"))
    strategy.adaptation(Experience(index=0, classes=(0, 1)))
    (name,) = strategy.weights
    weight = strategy.weights[name]
    with torch.no_grad():
        weight.copy_(torch.arange(1.0, 129.0).view(8, 16))
    strategy.before_task(Experience(index=0, classes=(0, 1)))
    strategy.prune()
    assert weight.flatten()[:64].tolist() == [0.0] * 64
    assert strategy.owner(name).flatten().tolist() == [1] * 64 + [0] * 64
    weight.grad = torch.ones_like(weight)
    one = torch.zeros(1, dtype=torch.int64)
    strategy.after_backward(Batch(torch.zeros(1, 16), one, one))
    assert weight.grad.flatten().tolist() == [0.0] * 64 + [1.0] * 64
    with torch.no_grad():
        weight.sub_(0.5)  # what weight decay and momentum would do to all
    strategy.after_step(Batch(torch.zeros(1, 16), one, one), Objective({}))
    assert weight.flatten().tolist() == [0.0] * 64 + [value - 0.5 for value in range(65, 129)]


@pytest.mark.parametrize("network", ["mlp", "norm"])
def test_earlier_tasks_answers_stay_bit_for_bit(network: str, make_benchmark: Any, make_model: Any) -> None:
    """Through two more tasks, with momentum, weight decay and normalisation; fine-tuning's move by more than 0.01."""
    benchmark = make_benchmark(scenario="task_incremental")
    x = benchmark.transform.eval(benchmark.train[0].data.raw)

    def answers(make: Any) -> list[Tensor]:
        model = normalised() if network == "norm" else make_model("multi_head")
        trainer, found = None, []
        for experience in benchmark.train:
            trainer = trained(make(model), [experience]) if trainer is None else trainer
            if experience.index:
                trainer.train([experience])
            labels = torch.zeros(len(x), dtype=torch.int64)
            with torch.no_grad():
                found.append(trainer.strategy.eval().inference(x, labels)[:, :2])
        return found

    first, second, third = answers(packnet)
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    first, second, third = answers(Finetune)
    assert float((first - third).abs().max()) > 0.01


def test_capacity_and_what_later_tasks_train(make_benchmark: Any) -> None:
    """Shares of the weights: a half, a quarter, an eighth, and an eighth left. Biases and normalisation stay."""
    stream = make_benchmark(scenario="task_incremental").train
    strategy = packnet(normalised())
    trainer = trained(strategy, stream[:1])
    kept = {name: p.detach().clone() for name, p in strategy.model.named_parameters()}
    state = {name: b.clone() for name, b in strategy.model.named_buffers()}
    trainer.train(stream[1:])
    owner = strategy.owner("body.5.weight")
    assert owner.flatten().bincount().tolist() == [72, 36, 18, 18]
    assert bool((strategy.weights["body.5.weight"][owner == 3] == 0).all())
    for name, parameter in strategy.model.named_parameters():
        if name in kept:
            moved = not torch.equal(parameter, kept[name])
            assert moved == (name in strategy.weights), name
    assert all(torch.equal(b, state[n]) for n, b in strategy.model.named_buffers() if "running" in n)
    assert not any(m.training for m in strategy.train().modules() if isinstance(m, nn.BatchNorm1d))


def test_mixed_labels(make_benchmark: Any, make_model: Any) -> None:
    benchmark = make_benchmark(scenario="task_incremental")
    strategy = trained(packnet(make_model("multi_head")), benchmark.train).strategy.eval()
    x, labels = torch.rand(6, 1, 4, 4), torch.tensor([2, 0, 1, 1, 0, 2])
    mixed = strategy.inference(x, labels)
    for task in range(3):
        torch.testing.assert_close(mixed[labels == task], strategy.inference(x, torch.full((6,), task))[labels == task])
    assert torch.equal(strategy.inference(x, torch.full((6,), 2)), strategy.model(x, 2))
    with pytest.raises(ValueError, match="give the labels"):
        strategy.inference(x)


def test_first_task_without_pruning_is_finetune(make_benchmark: Any, make_model: Any) -> None:
    stream = make_benchmark(scenario="task_incremental").train[:1]
    plain = trained(Finetune(make_model("multi_head")), stream).strategy.model.state_dict()
    mine = trained(packnet(make_model("multi_head"), prune_fraction=0.0, retrain_epochs=0), stream).strategy.model
    torch.testing.assert_close(dict(mine.state_dict()), dict(plain), rtol=0, atol=0)


def test_what_is_refused(make_model: Any, make_benchmark: Any) -> None:
    with pytest.raises(ValueError, match=r"^prune_fraction 1.0 is outside"):
        packnet(make_model(), prune_fraction=1.0)
    with pytest.raises(ValueError, match=r"^retrain_epochs -1 < 0"):
        packnet(make_model(), retrain_epochs=-1)
    tasks = make_benchmark(scenario="task_incremental")
    assert packnet(make_model("multi_head")).conflict(tasks) is None
    assert "set model/head=multi_head" in str(packnet(make_model()).conflict(tasks))
    assert "task_incremental" in str(packnet(make_model("multi_head")).conflict(make_benchmark()))
    again = make_benchmark(scenario="task_incremental", task_labels=[0, 0, 1])
    assert "several experiences" in str(packnet(make_model("multi_head")).conflict(again))
