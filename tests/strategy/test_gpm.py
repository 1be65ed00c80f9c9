"""Gradient projection memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.head.incremental import IncrementalClassifier
from clx.model.mlp import MLP
from clx.strategy.finetune import Finetune
from clx.strategy.gpm import GPM
from clx.types import Batch, Clock, Experience, Samples


class Convolutions(Model):
    """For 1x4x4 images: more inputs of each unit than 16 images have places."""

    feature_dim = 300

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 20, 4, 2, padding=1), nn.ReLU(), nn.Conv2d(20, 300, 2), nn.ReLU(), nn.Flatten()
        )

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


def gpm(model: Any, **options: Any) -> GPM:
    return GPM(model, **{"epsilon_th": 0.97, "epsilon_step": 0.003, "num_samples": 300, "seed": 0} | options)


def trained(strategy: Finetune, stream: Any, **options: Any) -> Trainer:
    trainer = Trainer(strategy, partial(torch.optim.SGD, lr=0.1), device="cpu", epochs=2, batch_size=8, **options)
    trainer.train(stream)
    return trainer


def test_one_step_by_hand(make_linear: Any) -> None:
    """One sample (1, 1) is kept, with the constant 1: P = 1/3 everywhere. Zero weights, p = (1/2, 1/2); the stream's
    (1, 0) of class 0 has the gradient -1/2, 0 and bias -1/2 for class 0: minus its mean -1/3. Class 1 has the
    opposite."""
    strategy = gpm(make_linear([[0.0, 0.0], [0.0, 0.0]]))
    one, zero = torch.tensor([[1.0, 1.0]]), torch.zeros(1, dtype=torch.int64)
    experience = Experience(index=0, classes=(0, 1), train=Samples(one, zero, zero))
    strategy.adaptation(experience)
    strategy.eval().after_task(experience)
    for index, first in ((0, [-1 / 2, 0, -1 / 2]), (1, [-1 / 6, 1 / 3, -1 / 6])):
        stream = Batch(torch.tensor([[1.0, 0.0]]), zero, zero, clock=Clock(experience=index))
        strategy.zero_grad()
        strategy.observe(stream).terms["ce"].backward()
        strategy.after_backward(stream)
        head = strategy.model.classifier.classifier
        found = torch.cat((head.weight.grad, head.bias.grad.unsqueeze(1)), 1)
        torch.testing.assert_close(found, torch.tensor([first, [-v for v in first]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("network", ["mlp", "norm", "cnn"])
def test_with_all_energy_kept_old_logits_stay(network: str, make_benchmark: Any) -> None:
    """epsilon_th 1 over all samples of the first experience: training the second, which moves fine-tuning's logits for
    them by more than 0.05, moves these by rounding, normalisation or not."""
    for make, limit in ((gpm_all, 1e-3), (Finetune, None)):
        torch.manual_seed(0)
        benchmark = make_benchmark()
        model = Convolutions() if network == "cnn" else MLP(2, 16, (24, 24), batch_norm=network == "norm")
        model.classifier = IncrementalClassifier(model.feature_dim)
        trainer = trained(make(model), benchmark.train[:1])
        x = benchmark.transform.eval(benchmark.train[0].data.raw)
        before = trainer.strategy.eval()(x).detach()
        trainer.train(benchmark.train[1:2])
        moved = float((trainer.strategy.eval()(x).detach()[:, :2] - before).abs().max())
        assert moved < limit if limit is not None else moved > 0.05, make


def gpm_all(model: Any) -> GPM:
    return gpm(model, epsilon_th=1.0)


def test_the_head_of_another_task_is_free_and_its_body_is_not(make_benchmark: Any, make_model: Any) -> None:
    strategy = gpm(make_model("multi_head"), epsilon_th=1.0)
    stream = make_benchmark(scenario="task_incremental").train
    trainer = trained(strategy, stream[:1])
    assert list(strategy.layers) == ["inputs:body/1"]
    assert strategy.get_buffer("inputs:body/1").shape == (17, 17)
    assert strategy.get_buffer("inputs:body/1").trace().item() == pytest.approx(16)  # of 16 samples, no two alike
    before = {name: p.detach().clone() for name, p in strategy.model.named_parameters()}
    trainer.train(stream[1:2])
    after = dict(strategy.model.named_parameters())
    assert torch.equal(after["classifier.classifiers.0.weight"], before["classifier.classifiers.0.weight"])
    assert not torch.equal(after["body.1.weight"], before["body.1.weight"])  # one direction was free


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_without_energy_it_is_finetune(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    neutral = train_tiny(lambda model: gpm(model, epsilon_th=0.0, epsilon_step=0.0), head)
    torch.testing.assert_close(neutral, plain, rtol=0, atol=0)
    projected = train_tiny(gpm, head)
    assert not torch.equal(projected["body.1.weight"], plain["body.1.weight"])


@pytest.mark.parametrize(
    ("wrong", "start"),
    [
        ({"epsilon_th": 1.1}, "epsilon_th 1.1 is outside"),
        ({"epsilon_step": -0.1}, "epsilon_step -0.1 < 0"),
        ({"num_samples": 0}, "num_samples 0 < 1"),
    ],
)
def test_bad_values(wrong: dict[str, Any], start: str, make_model: Any) -> None:
    with pytest.raises(ValueError, match=f"^{start}"):
        gpm(make_model(), **wrong)


def test_heads_that_are_not_linear(make_benchmark: Any, make_model: Any) -> None:
    assert "set model/head=incremental" in str(gpm(make_model("cosine")).conflict(make_benchmark()))
    assert gpm(make_model()).conflict(make_benchmark()) is None
    tasks = make_benchmark(scenario="task_incremental")
    assert gpm(make_model("multi_head")).conflict(tasks) is None
