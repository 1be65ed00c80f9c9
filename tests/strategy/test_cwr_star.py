"""CWR*: what is trained, what is kept, and how they are merged."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.head.cwr import CWRClassifier
from clx.model.mlp import MLP
from clx.strategy.cwr_star import CWRStar
from clx.types import Batch, Experience, Samples


class Identity(Model):
    """Its features are its inputs."""

    feature_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.classifier = CWRClassifier(2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x


def network() -> MLP:
    torch.manual_seed(0)
    model = MLP(2, 16, (8,), batch_norm=True, drop_rate=0.2)
    model.classifier = CWRClassifier(8)
    return model


def trained(strategy: CWRStar, stream: Any, epochs: int = 5) -> Trainer:
    trainer = Trainer(strategy, partial(torch.optim.SGD, lr=0.1), device="cpu", epochs=epochs, batch_size=8)
    trainer.train(stream)
    return trainer


def experience(index: int, y: list[int]) -> Experience:
    classes, before = tuple(sorted(set(y))), (0, 1)[: 2 * index]
    samples = Samples(torch.ones(len(y), 2), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64))
    return Experience(index=index, classes=classes, previous_classes=before, train=samples)


def test_two_experiences_by_hand() -> None:
    """First, classes 0 and 1 with four samples each are trained to (1, 3) and (4, 0): mean 2 off, (-1, 1) and (2, -2).

    Then class 1 comes with one sample and class 2 with two. Training starts from (2, -2) for class 1 and zero for the
    others, so that of a sample (1, 0) of class 2 logits are 0, 2, 0. It ends at (6, 2) and (0, 4): mean 3 off, (3, -1)
    and (-3, 1). Class 1 has m = sqrt(4 / 1) = 2: ((2, -2) 2 + (3, -1)) / 3 = (7/3, -5/3). Class 2 is new, 0 stays.
    """
    strategy = CWRStar(Identity(), freeze_body=True)
    weight = lambda: strategy.head.classifier.weight.data  # noqa: E731 - the head is made anew as it grows
    first, second = experience(0, [0, 1] * 4), experience(1, [2, 1, 2])
    strategy.adaptation(first)
    strategy.before_task(first)
    assert not weight().any()
    weight().copy_(torch.tensor([[1.0, 3.0], [4.0, 0.0]]))
    strategy.after_task(first)
    assert weight().tolist() == [[-1, 1], [2, -2]]
    strategy.adaptation(second)
    strategy.before_task(second)
    assert weight().tolist() == [[0, 0], [2, -2], [0, 0]]
    objective = strategy.observe(Batch(torch.tensor([[1.0, 0.0]]), torch.tensor([2]), torch.tensor([0])))
    assert objective.logits is not None
    assert objective.logits.tolist() == [[0, 2, 0]]
    wanted = torch.log(torch.tensor(2 + torch.e**2))  # minus log(1 / (1 + e^2 + 1))
    torch.testing.assert_close(objective.terms["ce"], wanted)
    weight().copy_(torch.tensor([[9.0, 9.0], [6.0, 2.0], [0.0, 4.0]]))
    strategy.after_task(second)
    torch.testing.assert_close(weight(), torch.tensor([[-1.0, 1.0], [7 / 3, -5 / 3], [-3.0, 1.0]]))
    assert strategy.head.past.tolist() == [4, 5, 2]


@pytest.mark.parametrize("freeze_body", [True, False])
def test_the_body_after_the_first_experience(freeze_body: bool, make_benchmark: Any) -> None:
    """Parameters and statistics keep their bits, or do not; features are then taken without dropout."""
    stream, strategy = make_benchmark().train, CWRStar(network(), freeze_body=freeze_body)
    before_all = {name: value.clone() for name, value in strategy.model.body.state_dict().items()}
    trainer = trained(strategy, stream[:1])
    before = {name: value.clone() for name, value in strategy.model.body.state_dict().items()}
    assert not torch.equal(before["1.weight"], before_all["1.weight"])
    trainer.train(stream[1:2])
    same = [torch.equal(value, before[name]) for name, value in strategy.model.body.state_dict().items()]
    assert all(same) if freeze_body else not any(same)
    assert strategy.train().model.body.training != freeze_body
    assert len(strategy.get_parameters(stream[1])[0]["params"]) == (1 if freeze_body else 5)


def test_it_keeps_what_it_learned(make_benchmark: Any) -> None:
    benchmark = make_benchmark()
    trainer = trained(CWRStar(network(), freeze_body=True), benchmark.train, epochs=20)
    trainer.evaluate(benchmark.test)
    assert trainer.matrix is not None
    assert trainer.matrix.plain[-1].mean() > 0.4  # chance is 1/6, fine-tuning 1/3 at the most


def test_what_does_not_fit(make_benchmark: Any, make_model: Any) -> None:
    assert str(CWRStar(make_model(), freeze_body=True).conflict(make_benchmark())).endswith("set model/head=cwr")
    for scenario in ("class_incremental", "task_incremental", "domain_incremental"):
        assert CWRStar(network(), freeze_body=True).conflict(make_benchmark(scenario=scenario)) is None
