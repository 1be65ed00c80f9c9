"""LUCIR: each of its terms by hand, and each of its parts switched off."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.buffer.herding import Herding
from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.head.split_cosine import SplitCosine
from clx.model.pnn import PNN
from clx.strategy.ft_exemplars import FTExemplars
from clx.strategy.lucir import LUCIR
from clx.types import Batch, Experience, Samples

OFF = {"lw_mr": 0.0, "lamda": 0.0, "imprint": False, "freeze_old": False, "balance_epochs": 0}
FIRST, SECOND = (0, 1), (2, 3)


class Plane(Model):
    """features = turn x, in two dimensions; the identity at first."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.feature_dim = 2
        self.turn = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.turn.weight)
        self.classifier = SplitCosine(2, scale=scale)

    def features(self, x: Tensor) -> Tensor:
        return self.turn(x)


def lucir(model: Model, capacity: int = 4, **options: Any) -> LUCIR:
    paper = {"K": 2, "lw_mr": 1.0, "dist": 0.5, "lamda": 5.0, "imprint": True, "freeze_old": True,
             "balance_epochs": 0, "balance_lr": 0.01}  # fmt: skip
    return LUCIR(model, Herding(capacity, 0, per_class=None), **paper | options)


def second(train: Samples | None = None) -> Experience:
    return Experience(index=1, classes=SECOND, previous_classes=FIRST, train=train)


def batch(x: list[list[float]], y: list[int]) -> Batch:
    return Batch(torch.tensor(x), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64))


@torch.no_grad()
def fill(strategy: LUCIR, **blocks: list[list[float]]) -> None:
    for name, rows in blocks.items():
        strategy.head.blocks[name.removeprefix("_")].copy_(torch.tensor(rows))


def test_terms_by_hand() -> None:
    """Embeddings (1, 0), (0, 1) | (-1, 0), (.6, .8); scale 2; two old and two new classes, so weight 5 sqrt(2/2) = 5.

    x = (1, 0) of class 0: cosines 1, 0, -1, .6. ce = -ln(e^2 / (e^2 + 1 + e^-2 + e^1.2)). The net has been turned by
    a quarter since the teacher was taken, with x given so that features are (1, 0): teacher's are (0, -1): less
    forget 1. margin: max(0, .5 - 1 + .6) = .1 and max(0, .5 - 1 - 1) = 0: mean .05.
    """
    strategy = lucir(Plane(scale=2.0))
    strategy.adaptation(Experience(index=0, classes=FIRST))
    fill(strategy, _0=[[1.0, 0.0], [0.0, 1.0]])
    strategy.adaptation(second())
    fill(strategy, _2=[[-1.0, 0.0], [0.6, 0.8]])
    with torch.no_grad():
        strategy.model.turn.weight.copy_(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))  # (x, y) -> (-y, x)
    objective = strategy.observe(batch([[0.0, -1.0]], [0]))
    terms = {name: value.item() for name, value in objective.terms.items()}
    ce = -math.log(math.exp(2) / (math.exp(2) + 1 + math.exp(-2) + math.exp(1.2)))
    assert terms == pytest.approx({"ce": ce, "less_forget": 5.0, "margin": 0.05}, abs=1e-5)
    torch.testing.assert_close(objective.logits, torch.tensor([[2.0, 0.0, -2.0, 1.2]]))


def test_the_first_experience_is_cross_entropy_alone() -> None:
    strategy = lucir(Plane())
    strategy.adaptation(Experience(index=0, classes=FIRST))
    assert strategy.observe(batch([[1.0, 0.0]], [0])).terms.keys() == {"ce"}


def test_the_weight_grows_with_old_over_new() -> None:
    """50 classes, then 10: 5 sqrt(50 / 10) = 11.18; then 10 more: 5 sqrt(60 / 10)."""
    strategy, weights = lucir(Plane()), []
    for index, (start, stop) in enumerate([(0, 50), (50, 60), (60, 70)]):
        strategy.adaptation(
            Experience(index=index, classes=tuple(range(start, stop)), previous_classes=tuple(range(start)))
        )
        weights.append(strategy.weight)
    assert weights == pytest.approx([0, 5 * 5**0.5, 5 * 6**0.5])


def test_new_embeddings_are_imprinted() -> None:
    """Old rows of lengths 1 and 3: mean 2. Class 2 at (4, 0) and (0, 1): the mean direction is (.5, .5), so
    2 (1, 1) / sqrt 2. Class 3 at (0, -7): (0, -2)."""
    strategy = lucir(Plane())
    strategy.adaptation(Experience(index=0, classes=FIRST))
    fill(strategy, _0=[[1.0, 0.0], [0.0, 3.0]])
    data = Samples(torch.tensor([[4.0, 0.0], [0.0, -7.0], [0.0, 1.0]]), torch.tensor([2, 3, 2]), torch.zeros(3).long())
    strategy.adaptation(second(data))
    strategy.before_task(second(data))
    torch.testing.assert_close(strategy.head.blocks["2"].data, torch.tensor([[2**0.5, 2**0.5], [0.0, -2.0]]))
    assert strategy.head.blocks["0"].tolist() == [[1, 0], [0, 3]]


@pytest.mark.parametrize("freeze", [True, False])
def test_old_embeddings_stay_where_they_are(freeze: bool, make_benchmark: Any, make_model: Any) -> None:
    """With momentum and weight decay too: they are not in the optimizer."""
    strategy = lucir(make_model("split_cosine"), freeze_old=freeze)
    sgd = lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)  # noqa: E731
    trainer, stream = Trainer(strategy, sgd, device="cpu", epochs=2), make_benchmark().train
    trainer.train(stream[:1])
    old = strategy.head.blocks["0"].detach().clone()
    trainer.train(stream[1:2])
    assert torch.equal(strategy.head.blocks["0"], old) == freeze


def test_the_teacher_stays_and_gets_no_gradient(make_benchmark: Any, make_model: Any) -> None:
    strategy = lucir(make_model("split_cosine", drop_rate=0.5))
    trainer, stream = Trainer(strategy, device="cpu"), make_benchmark().train
    trainer.train(stream[:1])
    wanted = {name: value.clone() for name, value in strategy.model.state_dict().items()}
    trainer.train(stream[1:2])
    assert strategy.train().teacher is not None
    assert not any(module.training for module in strategy.teacher.modules())
    state = strategy.teacher.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in wanted.items())


def test_the_balanced_phase_trains_the_head_alone(make_benchmark: Any, make_model: Any) -> None:
    """Equally many of each class, 4 classes in a capacity of 8, for 3 epochs, with the backbone as it was."""
    strategy = lucir(make_model("split_cosine"), capacity=8, balance_epochs=3)
    stream = make_benchmark().train
    trainer = Trainer(strategy, device="cpu")
    trainer.train(stream[:1])
    trainer.grow(stream[1])
    strategy.before_task(stream[1])
    train, balance = strategy.phases(stream[1])
    assert train.name == "train"
    assert len(train.data) == 16 + 8
    assert balance.data.y.bincount().tolist() == [2, 2, 2, 2]
    assert (balance.epochs, balance.data.raw.shape) == (3, (8, 8))
    assert {id(p) for p in balance.parameters[0]["params"]} == {id(p) for p in strategy.head.parameters()}
    objective = balance.observe(Batch(balance.data.raw, balance.data.y, balance.data.t))
    assert objective.terms.keys() == {"ce", "margin"}
    torch.testing.assert_close(objective.logits, strategy.head(balance.data.raw))


def test_all_parts_off_it_is_fine_tuning_with_exemplars(train_tiny: Any) -> None:
    plain = train_tiny(lambda model: FTExemplars(model, Herding(6, 0, per_class=None)), "split_cosine")
    bare = train_tiny(lambda model: lucir(model, 6, **OFF), "split_cosine")
    assert all(torch.equal(plain[name], bare[name]) for name in plain)


@pytest.mark.parametrize("part", [{"lw_mr": 1.0}, {"lamda": 5.0}, {"imprint": True}, {"freeze_old": True},
                                  {"balance_epochs": 2}], ids=lambda part: next(iter(part)))  # fmt: skip
def test_each_part_alone_makes_a_difference(part: dict[str, Any], train_tiny: Any) -> None:
    bare = train_tiny(lambda model: lucir(model, 6, **OFF), "split_cosine")
    other = train_tiny(lambda model: lucir(model, 6, **OFF | part), "split_cosine")
    assert any(not torch.equal(bare[name], other[name]) for name in bare)


def test_what_does_not_fit(make_benchmark: Any, make_model: Any) -> None:
    assert "set model/head=split_cosine" in str(lucir(make_model()).conflict(make_benchmark()))
    net = PNN()
    net.classifier = SplitCosine(net.feature_dim)
    assert "depend on the task" in str(lucir(net).conflict(make_benchmark()))
    model = make_model("split_cosine")
    assert "strategy.K=3 > 2 new classes" in str(lucir(model, K=3).conflict(make_benchmark()))
    assert lucir(model, K=3, lw_mr=0.0).conflict(make_benchmark()) is None
    assert lucir(model).conflict(make_benchmark(accumulate="joint")) is None
    for wrong in ({"K": 0}, {"lw_mr": -1.0}, {"lamda": -1.0}, {"balance_epochs": -1}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))} "):
            lucir(model, **wrong)
