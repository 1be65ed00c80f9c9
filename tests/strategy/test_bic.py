"""Bias correction."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer.herding import Herding
from clx.loop.trainer import Trainer
from clx.strategy.bic import BiC, ranks
from clx.strategy.ft_exemplars import FTExemplars
from clx.strategy.wa import WA
from clx.types import Batch, Experience, Samples

LN3 = math.log(3)
OPTIONS = {"temperature": 2.0, "distill": True, "val_fraction": 0.5, "bias_epochs": 3, "bias_lr": 0.1, "seed": 0}


def bic(model: Any, capacity: int = 12, **options: Any) -> BiC:
    return BiC(model, Herding(capacity, seed=0, per_class=None), **OPTIONS | options)


def batch(x: list[list[float]], y: list[int]) -> Batch:
    return Batch(torch.tensor(x), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64))


def grown(make_linear: Any) -> BiC:
    """Classes 0 and 1, then 2 and 3; the first pair is corrected by 2 z + 1, the second not yet."""
    strategy = bic(make_linear([[0.0], [0.0]]))
    strategy.adaptation(Experience(index=0, classes=(0, 1)))
    strategy.model.set_rows([[0.0], [LN3]])
    strategy.adaptation(Experience(index=1, classes=(2, 3), previous_classes=(0, 1)))
    with torch.no_grad():
        strategy.alpha[0].fill_(2.0)
        strategy.beta[0].fill_(1.0)
    return strategy


def test_correction_by_hand(make_linear: Any) -> None:
    """Logits 3, -1 | 5, 2: twice the old ones and 1 more; the new ones, at 0.5 and -1, half of them and 1 less."""
    strategy = grown(make_linear)
    with torch.no_grad():
        strategy.alpha[1].fill_(0.5)
        strategy.beta[1].fill_(-1.0)
    strategy.model.set_rows([[3.0], [-1.0], [5.0], [2.0]])
    assert strategy.inference(torch.ones(1, 1)).tolist() == [[7.0, -1.0, 1.5, 0.0]]


def test_loss_by_hand(make_linear: Any) -> None:
    """Teacher (0, ln 3), corrected (1, 2 ln 3 + 1): at temperature 2 it says 1/4, 3/4. The student, logits (ln 3, 0 |
    0, 0), corrected (2 ln 3 + 1, 1 | 0, 0): 3/4, 1/4 of the old ones, so KL = 1/2 ln 3, half of it 0.274653.
    Cross-entropy of class 2: ln(9 e + e + 2) = ln 29.182818 = 3.373580, half of it 1.686790."""
    strategy = grown(make_linear)
    strategy.model.set_rows([[LN3], [0.0], [0.0], [0.0]])
    terms = strategy.observe(batch([[1.0]], [2])).terms
    assert terms["distillation"].item() == pytest.approx(0.274653, abs=1e-6)
    assert terms["ce"].item() == pytest.approx(math.log(10 * math.e + 2) / 2, abs=1e-6)


def test_ranks() -> None:
    assert ranks(torch.tensor([1, 0, 1, 1, 3, 0])).tolist() == [0, 0, 1, 2, 0, 1]
    assert ranks(torch.tensor([], dtype=torch.int64)).tolist() == []


def test_what_is_held_out(make_linear: Any, make_experience: Any) -> None:
    """Every second exemplar: of classes 0 and 1, with 4 and 3, two each; so two of class 2, of its 5, are drawn."""
    strategy = grown(make_linear)
    second = make_experience(1, {2: 5})
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    apart, fitted = strategy.held_out(second, Samples(torch.zeros(7, 2), y, y))
    assert apart[2:].tolist() == [5, 7, 9, 11]
    assert len(set(apart[:2].tolist()) & set(range(5))) == 2
    assert fitted.tolist() == apart.tolist()
    y = torch.tensor([0, 0, 0, 0, 1])  # class 1 has one alone: one of each class is fitted to
    apart, fitted = strategy.held_out(second, Samples(torch.zeros(5, 2), y, y))
    assert apart[1:].tolist() == [5, 7, 9]
    assert fitted[1:].tolist() == [5, 9]


def test_phases(make_benchmark: Any, make_model: Any) -> None:
    """8 samples of each class, 6 exemplars of each of the first two: three of each class are held out. The second phase
    trains the last two numbers alone."""
    strategy, stream = bic(make_model()), make_benchmark().train
    trainer = Trainer(strategy, device="cpu")
    trainer.train(stream[:1])
    trainer.grow(stream[1])
    seen = []
    for phase in strategy.phases(stream[1]):
        seen.append((phase.name, len(phase.data), phase.data.y.bincount().tolist()))
        if phase.name == "bias":
            assert phase.data.raw.shape == (12, 4)
            (group,) = phase.parameters
            assert group["params"] == [strategy.alpha[1], strategy.beta[1]]
    assert seen == [("train", 16 + 12 - 12, [3, 3, 5, 5]), ("bias", 12, [3, 3, 3, 3])]
    trainer.train(stream[1:2])
    assert [p.item() for p in (strategy.alpha[0], strategy.beta[0])] == [1.0, 0.0]
    assert strategy.alpha[1].item() != 1.0
    assert strategy.beta[1].item() != 0.0


def test_the_fit_finds_the_bias(make_linear: Any) -> None:
    """One old and one new class, whose logits are 4 z + 3 of what is right: alpha 1/4 and beta -3/4 undo it."""
    strategy = bic(make_linear([[1.0]]))
    strategy.adaptation(Experience(index=0, classes=(0,)))
    strategy.adaptation(Experience(index=1, classes=(1,), previous_classes=(0,)))
    draw = torch.Generator().manual_seed(0)
    right = torch.randn(4000, 2, generator=draw)
    y = right.softmax(1).multinomial(1, generator=draw).squeeze(1)
    logits = torch.stack((right[:, 0], 4 * right[:, 1] + 3), 1)
    optimizer = torch.optim.Adam([strategy.alpha[1], strategy.beta[1]], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        strategy.observe_logits(Batch(logits, y, y)).terms["ce"].backward()
        optimizer.step()
    assert strategy.alpha[1].item() == pytest.approx(0.25, abs=0.03)
    assert strategy.beta[1].item() == pytest.approx(-0.75, abs=0.1)


def test_neutral_settings(train_tiny: Any) -> None:
    def plain_wa(model: Any) -> WA:
        parts = {"distill": True, "align": False, "nonnegative": False}
        return WA(model, Herding(6, seed=0, per_class=None), temperature=2.0, **parts)

    exemplars = train_tiny(lambda model: FTExemplars(model, Herding(6, seed=0, per_class=None)))
    for kind, options in ((exemplars, {"distill": False}), (train_tiny(plain_wa), {})):
        neutral = train_tiny(lambda model, o=options: bic(model, 6, bias_epochs=0, **o))
        torch.testing.assert_close(neutral, kind, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("wrong", "start"),
    [
        ({"temperature": -1.0}, "temperature -1.0 is not above 0"),
        ({"val_fraction": 0.0}, r"val_fraction 0.0 is outside"),
        ({"bias_epochs": -1}, "bias_epochs -1 < 0"),
    ],
)
def test_bad_values(wrong: dict[str, Any], start: str, make_model: Any) -> None:
    with pytest.raises(ValueError, match=f"^{start}"):
        bic(make_model(), **wrong)


def test_conflicts(make_model: Any, make_benchmark: Any) -> None:
    assert bic(make_model()).conflict(make_benchmark()) is None
    assert "set model/head=incremental" in str(bic(make_model("multi_head")).conflict(make_benchmark()))
    assert "buffer=herding" in str(BiC(make_model(), None, **OPTIONS).conflict(make_benchmark()))
    assert bic(make_model()).conflict(make_benchmark(scenario="domain_incremental")) is not None
