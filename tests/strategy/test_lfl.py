"""Less-forgetting learning."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.head.incremental import IncrementalClassifier
from clx.strategy.finetune import Finetune
from clx.strategy.lfl import LFL
from clx.types import Batch, Experience

make = partial(LFL, lambda_e=3.0, freeze_head=True)
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)


class Scaled(Model):
    """Features: the inputs times a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim, self.classifier = 2, IncrementalClassifier(2)
        self.factor = torch.nn.Parameter(torch.tensor(1.0))

    def features(self, x: Any) -> Any:
        return self.factor * x


def test_loss_by_hand() -> None:
    """From factor 1 to 3: features of (1, 2) are (2, 4) away: 3 x 1/2 (4 + 16) = 30; of (0, 0) nowhere: mean 15.

    All scores are 0: cross-entropy ln 2 in the first experience, ln 3 in the second.
    """
    method = make(Scaled())
    batch = Batch(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64))
    method.adaptation(Experience(index=0, classes=(0, 1)))
    for parameter in method.model.classifier.parameters():
        parameter.data.zero_()
    assert {n: v.item() for n, v in method.observe(batch).terms.items()} == pytest.approx({"ce": math.log(2)})
    method.adaptation(Experience(index=1, classes=(2,), previous_classes=(0, 1)))
    for parameter in method.model.classifier.parameters():
        parameter.data.zero_()
    with torch.no_grad():
        method.model.factor.fill_(3.0)
    terms = method.observe(batch).terms
    assert {n: v.item() for n, v in terms.items()} == pytest.approx({"ce": math.log(3), "features": 15.0})
    terms["features"].backward()
    # d/df 3/2 (f - 1)^2 5, mean over two: 3 x 2 x 5 / 2
    assert method.model.factor.grad.item() == pytest.approx(15.0)


SCENARIOS = {
    "incremental": "class_incremental",
    "cosine": "class_incremental",
    "split_cosine": "class_incremental",
    "multi_head": "task_incremental",
}


@pytest.mark.parametrize("head", SCENARIOS)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_old_rows_stay_and_new_ones_move(
    head: str, clip_norm: float | None, make_benchmark: Any, make_model: Any
) -> None:
    """Whatever momentum and weight decay do."""
    method = make(make_model(head))
    trainer = Trainer(method, SGD, epochs=2, batch_size=5, device="cpu", clip_norm=clip_norm)
    stream = make_benchmark(scenario=SCENARIOS[head]).train
    for experience in stream:
        trainer.attach(experience.transform)
        trainer.grow(experience)
        before = {n: p.detach().clone() for n, p in method.model.named_parameters()}
        teacher = None if method.teacher is None else dict(method.teacher.model.named_parameters())
        trainer.train(experience)
        moved, kept = 0, 0
        for name, p in method.model.named_parameters():
            if not name.startswith("classifier.") or p.dim() == 0:
                continue
            old = 0 if teacher is None or name not in teacher else len(teacher[name])
            kept += old
            moved += len(p) - old
            assert torch.equal(p[:old], before[name][:old])
            assert not any(torch.equal(row, was) for row, was in zip(p[old:], before[name][old:], strict=True))
        assert moved > 0
        assert (kept > 0) == (experience.index > 0)
        assert not torch.equal(method.model.get_parameter("body.1.weight"), before["body.1.weight"])


def test_a_head_for_all_domains_stays_whole(make_benchmark: Any, make_model: Any) -> None:
    """Three experiences of the same two classes: the head is that of the first."""
    model = make_model()
    method = make(model)
    trainer = Trainer(method, SGD, epochs=1, batch_size=5, device="cpu")
    stream = make_benchmark(scenario="domain_incremental").train
    heads = []
    for experience in stream:
        trainer.train(experience)
        heads.append([p.detach().clone() for p in model.classifier.parameters()])
    assert len(heads[0][0]) == 2
    for later in heads[1:]:
        assert all(torch.equal(one, other) for one, other in zip(heads[0], later, strict=True))


def test_a_unit_that_no_class_had_yet_is_free(make_linear: Any) -> None:
    """The first experience has one class, the head two units: the second is not old when its class comes."""
    method = make(make_linear([[1.0], [2.0]]))
    method.adaptation(Experience(index=0, classes=(0,)))
    method.adaptation(Experience(index=1, classes=(1,), previous_classes=(0,)))
    batch = Batch(torch.ones(1, 1), torch.tensor([1]), torch.zeros(1, dtype=torch.int64))
    sum(method.observe(batch).terms.values()).backward()
    method.after_backward(batch)
    gradient = method.model.classifier.classifier.weight.grad
    assert gradient[0].item() == 0
    assert gradient[1].item() != 0


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_without_both_parts_it_is_finetune(head: str, train_tiny: Any) -> None:
    plain, without, held = (
        train_tiny(strategy, head) for strategy in (Finetune, partial(LFL, lambda_e=0.0, freeze_head=False), make)
    )
    torch.testing.assert_close(without, plain, rtol=0, atol=0)
    assert not torch.equal(held["body.1.weight"], plain["body.1.weight"])


def test_bad_weight(make_model: Any) -> None:
    with pytest.raises(ValueError, match=r"^lambda_e -1.0 < 0"):
        make(make_model(), lambda_e=-1.0)
