"""Nearest class mean over a backbone that never changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from clx.loop.trainer import Trainer
from clx.model.head.ncm import NCMClassifier
from clx.model.simple_mlp import SimpleMLP
from clx.strategy.finetune import Finetune
from clx.strategy.ncm import NCM


def model() -> SimpleMLP:
    torch.manual_seed(0)
    net = SimpleMLP(input_size=16, hidden_size=8)
    net.classifier = NCMClassifier(8)
    return net


def test_means_are_those_of_all_samples_of_each_class(make_benchmark: Any) -> None:
    """Against one class at a time over all the data; the backbone keeps its bits. Tolerance 1e-6: order of sums."""
    benchmark, net = make_benchmark(), model()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    trainer = Trainer(NCM(net), device="cpu", epochs=3)
    trainer.train(benchmark.train, benchmark.test)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    for experience in benchmark.train:
        features = normalize(net.eval().features(benchmark.transform.eval(experience.data.raw)), dim=1)
        for column in experience.classes:
            wanted = features[experience.data.y == column].mean(0)
            torch.testing.assert_close(net.classifier.class_means[column], wanted, atol=1e-6, rtol=0)


def test_the_order_of_experiences_does_not_matter(make_benchmark: Any) -> None:
    """Six classes in three experiences or in one: the same predictions in the end."""
    answers = []
    raw = torch.cat([samples.raw for samples in make_benchmark().test])
    for count in (3, 1):
        benchmark, net = make_benchmark(num_experiences=count), model()
        trainer = Trainer(NCM(net), device="cpu")
        trainer.train(benchmark.train)
        answers.append(trainer.strategy.eval().inference(benchmark.transform.eval(raw)))
    torch.testing.assert_close(answers[0], answers[1], atol=1e-5, rtol=0)


def test_heads_and_strategies_that_do_not_fit(make_benchmark: Any, make_model: Any) -> None:
    assert "set model/head=ncm" in str(NCM(make_model()).conflict(make_benchmark()))
    assert "computed" in str(Finetune(model()).conflict(make_benchmark()))
    assert NCM(model()).conflict(make_benchmark()) is None


@pytest.mark.parametrize("scenario", ["class_incremental", "task_incremental", "domain_incremental"])
def test_every_scenario(scenario: str, make_benchmark: Any) -> None:
    assert NCM(model()).conflict(make_benchmark(scenario=scenario)) is None
