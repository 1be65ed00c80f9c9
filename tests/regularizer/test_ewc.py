"""Elastic weight consolidation with a term for each past task."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clx.model.dynamic import model_adaptation
from clx.regularizer.ewc import EWC
from clx.regularizer.ewc_online import EWCOnline
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective

NOTHING = Batch(*torch.zeros(3, 1)), Objective({})
make = partial(EWC, labels="empirical", batch_size=64, seed=0)


def value(ewc: EWC, model: Any) -> Tensor:
    found = ewc.penalty(model, *NOTHING)
    assert found is not None
    return found


def of(x: list[float], y: list[int]) -> Batch:
    return Batch(torch.tensor(x).unsqueeze(1), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64))


def experience(index: int) -> Experience:
    return Experience(index=index, classes=(0, 1))


def test_two_terms_by_hand(make_linear: Any) -> None:
    """Rows a, b on inputs x, p = (1/2, 1/2) as long as both score alike, so dlogp/dz = +-1/2.

    Task 0: a = b = 0, x = 2: F = (2/2)^2 = 1 for each weight, (1/2)^2 = 1/4 for each bias.
    Task 1: a = b = 3, x = 4: F = (4/2)^2 = 4 and 1/4. The biases stay at 0.
    At a = 5, b = 3: 1/2 [1 x 5^2 + 4 x 2^2] + 1/2 [1 x 3^2 + 4 x 0] = 20.5 + 4.5 = 25, biases nothing.
    As one spring: stiffness 5 around 12 / 5 = 2.4, the same for a and b; its energy is
    1/2 x 5 x (2.6^2 + .6^2) = 17.8, and the constant 2 x 1/2 x (1 x 4 / 5) x 3^2 = 7.2. Its pull on a is 5 x 2.6 = 13.
    """
    ewc, model = make(7.0), make_linear([[0.0], [0.0]])
    for index, (x, weight) in enumerate([(2.0, 0.0), (4.0, 3.0)]):
        ewc.adaptation(model, experience(index))
        model.set_rows([[weight], [weight]])
        ewc.after_task(model, experience(index), iter([of([x, x], [0, 1])]))
    ewc.adaptation(model, experience(2))
    (importance, biases), (anchor, _) = ewc.held("importance", "anchor")[1:]
    torch.testing.assert_close(importance, torch.full((2, 1), 5.0))
    torch.testing.assert_close(biases, torch.full((2,), 0.5))
    torch.testing.assert_close(anchor, torch.full((2, 1), 2.4))
    assert ewc.constant.item() == pytest.approx(7.2)
    model.set_rows([[5.0], [3.0]])
    found = value(ewc, model)
    assert found.item() == pytest.approx(25.0)
    found.backward()
    torch.testing.assert_close(model.classifier.classifier.weight.grad, torch.tensor([[13.0], [3.0]]))


@pytest.mark.parametrize("labels", ["sampled", "exact", "empirical", "batched"])
def test_the_sum_of_all_terms(labels: Any, make_model: Any) -> None:
    """After four tasks, with a head that grows: value and gradient of the sum of each task's own quadratic.

    Tolerance: 1e-5 of the value, the rounding of float32 over four sums.
    """
    draw, model = torch.Generator().manual_seed(0), make_model()
    ewc = make(1.0, labels=labels)
    terms: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for index in range(4):
        classes = (2 * index, 2 * index + 1)
        task = Experience(index=index, classes=classes, previous_classes=tuple(range(2 * index)))
        model_adaptation(model, task)
        ewc.adaptation(model, task)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=draw) / 5)
        x, y = torch.randn(6, 16, generator=draw), torch.tensor(classes * 3)
        alone = make(1.0, labels=labels)  # has seen this task only, but counts as it does
        alone.adaptation(model, task)
        for each in (ewc, alone):
            each.after_task(model.eval(), task, iter([Batch(x, y, torch.zeros_like(y))]))
        fisher = dict(zip(alone.names, alone.held("importance")[1], strict=True))
        terms.append((fisher, {name: p.detach().clone() for name, p in model.named_parameters()}))
    ewc.adaptation(model, Experience(index=4, classes=(0,)))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=draw))
    explicit = torch.zeros(())
    for fisher, anchors in terms:
        for name, p in model.named_parameters():
            old = tuple(slice(size) for size in anchors[name].shape)
            explicit = explicit + (fisher[name] * (p[old] - anchors[name]).square()).sum() / 2
    found = value(ewc, model)
    assert explicit > 0.01
    torch.testing.assert_close(found, explicit, rtol=1e-5, atol=1e-6)
    parameters = list(model.parameters())
    pairs = zip(torch.autograd.grad(found, parameters), torch.autograd.grad(explicit, parameters), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_batched_is_the_square_of_the_mean(make_linear: Any) -> None:
    """p = (1/2, 1/2), batches of 2. d(-log p(y))/dz_0 is p_0 - [y = 0]: -1/2 for class 0, 1/2 for class 1.

    x = 1, 3 of class 0: mean -(1 + 3)/2 / 2 = -1, squared 1; x = 2, 6 of classes 0 and 1: (-2 + 6)/2 / 2 = 1, 1; x = 4,
    alone, of class 0: -2, squared 4. The mean over 5 samples: (2 x 1 + 2 x 1 + 1 x 4) / 5 = 1.6; biases: batches
    -1/2, 0, -1/2: (2 x 1/4 + 0 + 1/4) / 5 = .15. Each sample's own square has the mean (1+9+4+36+16)/4/5 = 3.3.
    """
    model, batch = make_linear([[0.0], [0.0]]), of([1.0, 3.0, 2.0, 6.0, 4.0], [0, 0, 0, 1, 0])
    for labels, expected in (("batched", (1.6, 0.15)), ("empirical", (3.3, 0.25))):
        ewc = make(1.0, labels=labels, batch_size=2)
        ewc.adaptation(model, experience(0))
        ewc.after_task(model, experience(0), iter([batch]))
        weight, bias = ewc.held("importance")[1]
        torch.testing.assert_close(weight, torch.full((2, 1), expected[0]))
        torch.testing.assert_close(bias, torch.full((2,), expected[1]))
    assert all(p.grad is None for p in model.parameters())


def test_batched_over_two_heads(make_model: Any) -> None:
    """A batch of two tasks: the gradient of the mean over all of it, for each head."""
    model = make_model("multi_head").eval()
    for task, classes in enumerate([(0, 1), (2, 3)]):
        model_adaptation(model, Experience(index=task, classes=classes, classes_by_task={task: classes}))
    x, y, t = torch.randn(4, 16), torch.tensor([0, 3, 1, 2]), torch.tensor([0, 1, 0, 1])
    ewc = make(1.0, labels="batched")
    ewc.adaptation(model, experience(0))
    found = ewc.squared_means(model, [Batch(x, y, t)])
    gradients = torch.autograd.grad(cross_entropy(model(x, t), y), list(model.parameters()))
    assert all(g.abs().max() > 0 for g in gradients)
    torch.testing.assert_close(found, [g.square() for g in gradients])


def test_the_first_two_experiences_are_those_of_online_ewc(make_model: Any) -> None:
    """One term and one Fisher: the same spring; no constant."""
    model = make_model()
    model_adaptation(model, experience(0))
    x, y = torch.randn(6, 16), torch.tensor([0, 1] * 3)
    both = [make(1.0, labels="sampled"), EWCOnline(1.0, decay=1.0, labels="sampled", seed=0)]
    for each in both:
        each.adaptation(model, experience(0))
        each.after_task(model.eval(), experience(0), iter([Batch(x, y, torch.zeros_like(y))]))
        each.adaptation(model, experience(1))
    for parameter in model.parameters():
        parameter.data += 0.1
    ours, theirs = (each.penalty(model, *NOTHING) for each in both)
    assert theirs is not None
    assert theirs > 0
    assert torch.equal(ours, theirs)  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_weight_0_is_finetune(head: str, train_tiny: Any) -> None:
    plain, weightless, weighty = (
        train_tiny(Finetune, head, regularizers=regularizers)
        for regularizers in ({}, {"ewc": make(0.0)}, {"ewc": make(10.0)})
    )
    torch.testing.assert_close(weightless, plain, rtol=0, atol=0)
    assert not torch.equal(weighty["body.1.weight"], plain["body.1.weight"])


def test_bad_batch_size() -> None:
    with pytest.raises(ValueError, match=r"^batch_size 0 < 1"):
        make(1.0, batch_size=0)
