"""A covariance for each class over a backbone that never changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.loop.trainer import Trainer
from clx.model.head.fecam import FeCAMClassifier
from clx.model.simple_mlp import SimpleMLP
from clx.strategy.fecam import FeCAM
from clx.strategy.finetune import Finetune


def model() -> SimpleMLP:
    torch.manual_seed(0)
    net = SimpleMLP(input_size=16, hidden_size=8)
    net.classifier = FeCAMClassifier(8)
    return net


def test_every_class_has_the_covariance_of_its_own_samples(make_benchmark: Any) -> None:
    """Over three experiences; the backbone keeps its bits. Tolerance 1e-6: order of sums."""
    net, benchmark = model(), make_benchmark()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    Trainer(FeCAM(net), device="cpu").train(benchmark.train)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    for experience in benchmark.train:
        features = net.eval().features(benchmark.transform.eval(experience.data.raw)).detach()
        for column in experience.classes:
            own = features[experience.data.y == column].double()
            found = net.classifier.scatter[column] / 7  # 8 samples
            torch.testing.assert_close(found, torch.cov(own.sqrt().T), rtol=0, atol=1e-6)
            torch.testing.assert_close(net.classifier.raw_sums[column], own.sum(0), rtol=1e-6, atol=1e-6)


def test_the_order_of_experiences_does_not_matter(make_benchmark: Any) -> None:
    answers = []
    x = make_benchmark().transform.eval(torch.cat([samples.raw for samples in make_benchmark().test]))
    for count in (3, 1):
        trainer = Trainer(FeCAM(model()), device="cpu")
        trainer.train(make_benchmark(num_experiences=count).train)
        answers.append(trainer.strategy.eval().inference(x))
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-3, atol=1e-4)


def test_heads_and_strategies_that_do_not_fit(make_benchmark: Any, make_model: Any) -> None:
    assert str(FeCAM(make_model()).conflict(make_benchmark())).endswith("set model/head=fecam")
    assert "computed" in str(Finetune(model()).conflict(make_benchmark()))


@pytest.mark.parametrize("scenario", ["class_incremental", "task_incremental", "domain_incremental"])
def test_every_scenario(scenario: str, make_benchmark: Any) -> None:
    assert FeCAM(model()).conflict(make_benchmark(scenario=scenario)) is None
