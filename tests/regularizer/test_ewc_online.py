"""Online elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.dynamic import model_adaptation
from clx.regularizer.ewc_online import EWCOnline
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective


class Normed(Model):
    """Not all of its parameters are those of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Tanh())
        self.feature_dim, self.classifier = 4, nn.Linear(4, 3)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


def single_head(make_model: Callable[..., Model]) -> Model:
    model = make_model(drop_rate=0.5)
    model_adaptation(model, Experience(index=0, classes=(0, 1, 2)))
    return model


def multi_head(make_model: Callable[..., Model]) -> Model:
    model = make_model("multi_head")
    for task, classes in enumerate([(0, 1), (2, 3)]):
        model_adaptation(model, Experience(index=task, classes=classes, classes_by_task={task: classes}))
    return model


def normed(make_model: Callable[..., Model]) -> Model:
    torch.manual_seed(0)
    model = Normed()
    model(torch.randn(20, 16) + 2)
    return model


MODELS = {"single_head": single_head, "multi_head": multi_head, "normed": normed}


def parts(multitask: bool) -> list[Batch]:
    """5 samples in batches of 3 and 2; two tasks in each where tasks are labelled."""
    draw = torch.Generator().manual_seed(1)
    x, t = torch.randn(5, 16, generator=draw), torch.tensor([0, 1, 0, 1, 0]) * multitask
    y = torch.tensor([1, 0, 1, 1, 0]) + 2 * t
    return [Batch(x[rows], y[rows], t[rows]) for rows in (slice(0, 3), slice(3, 5))]


def explicit(model: Model, batches: list[Batch], targets: Callable[[Batch], Iterator[tuple[Tensor, Tensor]]]) -> Any:
    """mean over samples of sum over (label, weight) of weight (d log p(label | x) / d theta)^2, one at a time."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for batch in batches:
        for labels, weights in targets(batch):
            for row in range(len(batch)):
                model.zero_grad()
                log_p = model(batch.x[row : row + 1], batch.t[row : row + 1]).log_softmax(1)
                log_p[0, labels[row]].backward()
                for name, p in model.named_parameters():
                    if p.grad is not None:
                        total[name] += weights[row] * p.grad.square()
    model.zero_grad()
    return {name: value / sum(map(len, batches)) for name, value in total.items()}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, make_model: Any) -> Model:
    return MODELS[request.param](make_model).eval()


def estimated(model: Model, labels: Any, batches: list[Batch]) -> dict[str, Tensor]:
    ewc = EWCOnline(1.0, decay=1.0, labels=labels, seed=0)
    ewc.adaptation(model, Experience(index=0, classes=(0, 1)))
    return dict(ewc.fisher(model, iter(batches), torch.Generator().manual_seed(7)))


def test_exact_fisher(model: Model, request: pytest.FixtureRequest) -> None:
    """Every label, weighted by the model's own probability."""
    batches = parts("multi_head" in request.node.name)

    def every_label(batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        p = model(batch.x, batch.t).softmax(1).detach()
        for k in range(p.shape[1]):
            yield torch.full_like(batch.y, k), p[:, k]

    expected = explicit(model, batches, every_label)
    assert all(value.max() > 0 for value in expected.values())
    torch.testing.assert_close(estimated(model, "exact", batches), expected, rtol=1e-4, atol=1e-8)


def test_empirical_fisher(model: Model, request: pytest.FixtureRequest) -> None:
    """The true label alone."""
    batches = parts("multi_head" in request.node.name)
    expected = explicit(model, batches, lambda batch: iter([(batch.y, torch.ones(len(batch)))]))
    torch.testing.assert_close(estimated(model, "empirical", batches), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("make", [single_head, normed])
def test_sampled_fisher(make: Callable[..., Model], make_model: Any) -> None:
    """One label for each sample, drawn batch by batch from the model's own probabilities."""
    model, batches, draw = make(make_model).eval(), parts(multitask=False), torch.Generator().manual_seed(7)

    def one_label(batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        p = model(batch.x).softmax(1).detach()
        yield torch.multinomial(p, 1, generator=draw).squeeze(1), torch.ones(len(batch))

    expected = explicit(model, batches, one_label)
    torch.testing.assert_close(estimated(model, "sampled", batches), expected, rtol=1e-4, atol=1e-8)


def test_sampled_labels_average_to_the_exact_fisher(make_model: Any) -> None:
    """400 draws for each of 3 samples. One draw adds (1[y = k] - p_k)^2, which lies in [0, 1], to the Fisher of bias k,
    so the mean of 1,200 is known to 0.5 / sqrt(1200) = 0.014; 0.05 is more than three of that."""
    model, batch = single_head(make_model).eval(), parts(multitask=False)[0]
    many = Batch(batch.x.repeat(400, 1), batch.y.repeat(400), batch.t.repeat(400))
    exact, sampled = estimated(model, "exact", [batch]), estimated(model, "sampled", [many])
    name = "classifier.classifier.bias"
    assert exact[name].min() > 0.1
    torch.testing.assert_close(sampled[name], exact[name], rtol=0, atol=0.05)


@pytest.mark.parametrize("labels", ["sampled", "exact", "empirical"])
def test_estimating_leaves_the_model_as_it_was(model: Model, labels: str, request: pytest.FixtureRequest) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    estimated(model, labels, parts("multi_head" in request.node.name))
    assert all(p.grad is None for p in model.parameters())
    assert not model.training
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("labels", ["sampled", "exact", "empirical"])
def test_a_frozen_body_has_no_fisher(labels: Any, make_model: Any) -> None:
    """Only the head trains, so only the head is held; its Fisher is what it would be otherwise."""
    model, batches = single_head(make_model).eval(), parts(multitask=False)
    expected = estimated(model, labels, batches)
    model.body.requires_grad_(False)
    found = estimated(model, labels, batches)
    assert found.keys() == {"classifier.classifier.weight", "classifier.classifier.bias"}
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize(("decay", "factor"), [(1.0, 2.0), (0.5, 1.5), (0.0, 1.0)])
def test_fishers_add_up_and_decay(decay: float, factor: float, make_model: Any) -> None:
    """The same samples twice, nothing trained in between: decay F + F."""
    model, batches = single_head(make_model).eval(), parts(multitask=False)
    once = estimated(model, "empirical", batches)
    ewc = EWCOnline(1.0, decay=decay, labels="empirical", seed=0)
    for index in range(2):
        experience = Experience(index=index, classes=(0, 1, 2))
        ewc.adaptation(model, experience)
        ewc.after_task(model, experience, iter(batches))
    for importance, fisher in zip(ewc.held("importance")[1], once.values(), strict=True):
        torch.testing.assert_close(importance, factor * fisher)


def test_penalty_by_hand(make_linear: Any) -> None:
    """A row of zeros for each of 2 classes, x = 2: p = (1/2, 1/2), d log p(y) / d z = +-1/2, so the Fisher is
    (1/2)^2 = 1/4 for each bias and (2/2)^2 = 1 for each weight, whatever the label.

    In the next experience the weights move by 3 and -1, the new class's by 50:
    1/2 (1 x 9 + 1 x 1) = 5; the loop multiplies by the weight.
    """
    ewc, model = EWCOnline(100.0, decay=1.0, labels="sampled", seed=0), make_linear([[0.0], [0.0]])
    first, second = Experience(index=0, classes=(0, 1)), Experience(index=1, classes=(2,), previous_classes=(0, 1))
    batch = Batch(torch.full((3, 1), 2.0), torch.tensor([0, 1, 1]), torch.zeros(3, dtype=torch.int64))
    ewc.adaptation(model, first)
    assert ewc.penalty(model, batch, Objective({})) is None
    ewc.after_task(model, first, iter([batch]))
    weight, bias = ewc.held("importance")[1]
    assert (weight.flatten().tolist(), bias.tolist()) == ([1.0, 1.0], [0.25, 0.25])
    model_adaptation(model, second)
    ewc.adaptation(model, second)
    model.set_rows([[3.0], [-1.0], [50.0]])
    value = ewc.penalty(model, batch, Objective({}))
    assert value is not None
    assert value.item() == pytest.approx(5.0)


def test_importance_and_anchor_grow_with_the_head(make_benchmark: Any, make_model: Any) -> None:
    """After the second growth the head has 4 rows: two with a Fisher and an anchor where training left them, two of
    zeros."""
    ewc, model = EWCOnline(1.0, decay=1.0, labels="empirical", seed=0), make_model()
    trainer = Trainer(Finetune(model), regularizers={"ewc": ewc}, device="cpu")
    experiences = make_benchmark().train
    trainer.train(experiences[:1])
    trained = {name: p.detach().clone() for name, p in model.named_parameters()}
    before = [importance.clone() for importance in ewc.held("importance")[1]]
    trainer.grow(experiences[1])
    names = [name for name, _ in model.named_parameters()]
    for name, importance, anchor, old in zip(names, *ewc.held("importance", "anchor")[1:], before, strict=True):
        assert importance.shape == anchor.shape == model.get_parameter(name).shape
        rows = len(old)
        assert old.max() > 0
        assert torch.equal(importance[:rows], old)
        assert torch.equal(anchor[:rows], trained[name])
        assert not importance[rows:].any()
        assert not anchor[rows:].any()
    assert model.get_parameter("classifier.classifier.bias").shape == (4,)


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_weight_0_is_finetune(head: str, train_tiny: Any) -> None:
    make = partial(EWCOnline, decay=1.0, labels="sampled", seed=0)
    plain, weightless, weighty = (
        train_tiny(Finetune, head, regularizers=regularizers)
        for regularizers in ({}, {"ewc": make(0.0)}, {"ewc": make(10.0)})
    )
    torch.testing.assert_close(weightless, plain, rtol=0, atol=0)
    assert not torch.equal(weighty["body.1.weight"], plain["body.1.weight"])


@pytest.mark.parametrize("decay", [-0.1, 1.1])
def test_bad_decay(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"^decay {decay} is outside \[0, 1\]"):
        EWCOnline(1.0, decay=decay, labels="exact", seed=0)
