"""Ridge regression on random projections over a backbone that never changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.loop.trainer import Trainer
from clx.model.head.ranpac import RIDGES, RanPACClassifier
from clx.model.simple_mlp import SimpleMLP
from clx.runtime import seed as seeding
from clx.strategy.finetune import Finetune
from clx.strategy.ranpac import RanPAC


def model(ridge: float | None = 1.0) -> SimpleMLP:
    torch.manual_seed(0)
    net = SimpleMLP(input_size=16, hidden_size=8)
    net.classifier = RanPACClassifier(8, M=32, ridge=ridge)
    return net


def trained(strategy: RanPAC, benchmark: Any) -> RanPAC:
    Trainer(strategy, device="cpu").train(benchmark.train)
    strategy.eval()
    return strategy


def test_the_weights_are_least_squares_over_the_whole_stream(make_benchmark: Any) -> None:
    """Against one solution over all samples of three experiences; the backbone keeps its bits."""
    net, benchmark = model(), make_benchmark()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    trained(RanPAC(net, holdout=0.2, seed=0), benchmark)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    raw = torch.cat([experience.data.raw for experience in benchmark.train])
    y = torch.cat([experience.data.y for experience in benchmark.train])
    h = net.classifier.project(net.features(benchmark.transform.eval(raw))).detach().double()
    wanted = torch.linalg.solve(h.T @ h + torch.eye(32), h.T @ torch.eye(6)[y].double()).T
    torch.testing.assert_close(net.classifier.weight, wanted.float(), rtol=1e-3, atol=1e-5)


def test_the_order_of_experiences_does_not_matter(make_benchmark: Any) -> None:
    x = make_benchmark().transform.eval(torch.cat([samples.raw for samples in make_benchmark().test]))
    three, one = (
        trained(RanPAC(model(), holdout=0.2, seed=0), make_benchmark(num_experiences=count)).inference(x)
        for count in (3, 1)
    )
    torch.testing.assert_close(three, one, rtol=1e-3, atol=1e-4)


def test_the_ridge_is_chosen_on_a_fifth_of_the_last_experience(make_benchmark: Any) -> None:
    """3 of its 16 samples, drawn by the seed: the head, asked with the same, chooses the same."""
    benchmark = make_benchmark()
    strategy = trained(RanPAC(model(ridge=None), holdout=0.2, seed=5), benchmark)
    head, data = strategy.head, benchmark.train[2].data
    assert isinstance(head, RanPACClassifier)
    found = float(head.chosen)
    held_out = torch.randperm(16, generator=seeding.generator("ranpac", 5, 2))[:3]
    head.chosen.fill_(0.0)
    head.choose_ridge(strategy.embed(data), data.y, held_out)
    assert float(head.chosen) == found
    assert found in RIDGES


def test_what_is_refused(make_benchmark: Any, make_model: Any) -> None:
    assert str(RanPAC(make_model(), holdout=0.2, seed=0).conflict(make_benchmark())).endswith("set model/head=ranpac")
    assert "computed" in str(Finetune(model()).conflict(make_benchmark()))
    for holdout in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"^holdout {holdout} is outside"):
            RanPAC(model(), holdout=holdout, seed=0)


@pytest.mark.parametrize("scenario", ["class_incremental", "task_incremental", "domain_incremental"])
def test_every_scenario(scenario: str, make_benchmark: Any) -> None:
    assert RanPAC(model(), holdout=0.2, seed=0).conflict(make_benchmark(scenario=scenario)) is None
