"""Streaming linear discriminant analysis over a backbone that never changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.loop.trainer import Trainer
from clx.model.head.ncm import NCMClassifier
from clx.model.head.slda import SLDAClassifier
from clx.model.simple_mlp import SimpleMLP
from clx.strategy.finetune import Finetune
from clx.strategy.ncm import NCM
from clx.strategy.slda import SLDA


def model(head: Any = SLDAClassifier, **options: Any) -> SimpleMLP:
    torch.manual_seed(0)
    net = SimpleMLP(input_size=16, hidden_size=8)
    net.classifier = head(8, **options)
    return net


def trained(strategy: Finetune, benchmark: Any) -> Finetune:
    Trainer(strategy, device="cpu").train(benchmark.train)
    return strategy.eval()


def test_the_head_has_seen_every_sample_once_and_the_backbone_keeps_its_bits(make_benchmark: Any) -> None:
    net = model()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    benchmark = make_benchmark()
    trained(SLDA(net), benchmark)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert net.classifier.counts.tolist() == [8] * 6
    alone = SLDAClassifier(8)
    for experience in benchmark.train:
        alone.adaptation(experience)
        alone.add(net.features(benchmark.transform.eval(experience.data.raw)).detach(), experience.data.y)
    torch.testing.assert_close(net.classifier.scatter, alone.scatter)
    torch.testing.assert_close(net.classifier.class_means, alone.class_means)


def test_the_order_of_experiences_does_not_matter(make_benchmark: Any) -> None:
    """Six classes in three experiences or in one: the same scores in the end. Tolerance: float32 scores."""
    x = make_benchmark().transform.eval(torch.cat([samples.raw for samples in make_benchmark().test]))
    three, one = (trained(SLDA(model()), make_benchmark(num_experiences=count)).inference(x) for count in (3, 1))
    torch.testing.assert_close(three, one, rtol=1e-3, atol=1e-3)


def test_at_shrinkage_1_it_answers_as_ncm(make_benchmark: Any) -> None:
    benchmark = make_benchmark()
    x = benchmark.transform.eval(torch.cat([samples.raw for samples in benchmark.test]))
    ours = trained(SLDA(model(shrinkage=1.0)), benchmark).inference(x)
    theirs = trained(NCM(model(NCMClassifier, normalize=False)), benchmark).inference(x)
    assert torch.equal(ours.argmax(1), theirs.argmax(1))


def test_heads_and_strategies_that_do_not_fit(make_benchmark: Any, make_model: Any) -> None:
    assert str(SLDA(make_model()).conflict(make_benchmark())).endswith("set model/head=slda")
    assert str(NCM(model()).conflict(make_benchmark())).endswith("set model/head=ncm")
    assert "computed" in str(Finetune(model()).conflict(make_benchmark()))


@pytest.mark.parametrize("scenario", ["class_incremental", "task_incremental", "domain_incremental"])
def test_every_scenario(scenario: str, make_benchmark: Any) -> None:
    assert SLDA(model()).conflict(make_benchmark(scenario=scenario)) is None
