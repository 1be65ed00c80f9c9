"""What is optimized over a stream: rows 2, 3, 20 and 39 to 43 of the list in ../model/test_behaviour.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from clx.benchmark.split import Split
from clx.data.synthetic import Synthetic
from clx.loop.trainer import Trainer
from clx.model.dynamic import as_multitask
from clx.model.head.incremental import IncrementalClassifier
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.head.split_cosine import SplitCosine
from clx.model.simple_mlp import SimpleMLP
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience

HEADS = {"incremental": IncrementalClassifier, "multi_head": MultiHeadClassifier, "split_cosine": SplitCosine}
OPTIMIZERS = {
    "sgd": (partial(torch.optim.SGD, lr=0.05, momentum=0.9), ["momentum_buffer"]),
    "adam": (partial(torch.optim.Adam, lr=0.01), ["exp_avg", "exp_avg_sq"]),
    "adamw": (partial(torch.optim.AdamW, lr=0.01), ["exp_avg", "exp_avg_sq"]),
}


def toy(**keys: Any) -> Split:
    """10 classes of 6 features over 5 experiences, 60 training and 40 test samples a class."""
    data = Synthetic([1, 2, 3], num_classes=10, train_per_class=60, test_per_class=40, noise=32.0, seed=0)
    return Split(**{"data": data, "num_experiences": 5, "scenario": "task_incremental"} | keys)


def net(head: str) -> Any:
    """6 -> 10 features; head: one of HEADS, "linear", or "as_multitask" of that."""
    torch.manual_seed(0)
    model = SimpleMLP(num_classes=2, input_size=6, hidden_size=10, drop_rate=0.0)
    if head in HEADS:
        model.classifier = HEADS[head](10)
    return as_multitask(model, "classifier") if head == "as_multitask" else model


class Looking(Finetune):
    """Calls `first` at the first step of each experience, between the gradient and the optimizer's step."""

    first: Callable[[int], None] | None = None

    def after_backward(self, batch: Batch) -> None:
        if batch.clock.step == 0 and self.first is not None:
            self.first(batch.clock.experience)


def watched(strategy: Finetune, optimizer: Any = OPTIMIZERS["sgd"][0], **options: Any) -> tuple[Trainer, list[Any]]:
    """A Trainer, and every optimizer that it makes."""
    made: list[Any] = []

    def make(groups: Any) -> torch.optim.Optimizer:
        made.append(optimizer(groups))
        return made[-1]

    return Trainer(strategy, make, **{"device": "cpu"} | options), made


def names(strategy: Finetune, group: dict[str, Any]) -> set[str]:
    """Of the parameters in that group of an optimizer."""
    found = {id(p): name for name, p in strategy.named_parameters()}
    return {found[id(p)] for p in group["params"]}


# ------------------------------------------------------------------------------------------------ what is optimized


def test_what_grew_is_in_the_optimizer_and_what_it_replaced_is_not() -> None:
    """Row 2, 3: the first experience twice, then the one of classes 8 and 9: only that one makes new parameters."""
    strategy = Finetune(net("incremental"))
    (trainer, made), stream, seen = watched(strategy), toy(scenario="class_incremental").train, []
    for index in (0, 0, 4):
        trainer.train(stream[index])
        layer = strategy.model.classifier.classifier
        seen.append([layer.weight, layer.bias])
        optimized = {id(p) for p in made[-1].param_groups[0]["params"]}
        assert optimized == {id(p) for p in strategy.parameters()}
    assert all(a is b for a, b in zip(seen[0], seen[1], strict=True))
    assert not any(id(old) in optimized or old.data_ptr() == new.data_ptr() for old, new in zip(*seen[1:], strict=True))
    assert seen[2][0].shape == (10, 10)


def test_an_experience_that_comes_again_takes_no_column_away() -> None:
    """Row 2: first the classes 0 1, then 2 3, then 0 1 once more: the sets of both are still measured."""
    benchmark, trainer = toy(scenario="class_incremental"), Trainer(Finetune(net("incremental")), device="cpu")
    for index in (0, 1, 0):
        trainer.train(benchmark.train[index])
    found = trainer.eval(benchmark.test)
    assert [found[f"accuracy/{j}"] is None for j in range(5)] == [False, False, True, True, True]


class Grouped(Finetune):
    """The classifier with lr 0.1; the rest, and module A, with 0.05; module B in a group of its own."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def get_parameters(self, experience: Experience) -> list[dict[str, Any]]:
        head = list(self.model.classifier.parameters())
        rest = [p for p in self.model.parameters() if all(p is not other for other in head)]
        groups = [(head, 0.1), ([*rest, *self.a.parameters()], 0.05), (list(self.b.parameters()), 0.01)]
        return [{"params": params, "lr": lr} for params, lr in groups]


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_groups_hold_through_growth(head: str) -> None:
    """Row 20, 39, 40: over five experiences all of the classifier, new heads and grown ones, is in group 0, A with the
    body in group 1, B in group 2. There one adds groups to a live optimizer; here get_parameters says them, and every
    phase has a new optimizer."""
    strategy = Grouped(net(head))
    trainer, made = watched(strategy)
    for number, experience in enumerate(toy().train):
        trainer.train(experience)
        groups = made[-1].param_groups
        everything = {name for name, _ in strategy.named_parameters()}
        classifier = {name for name in everything if name.startswith("model.classifier.")}
        assert len(classifier) == (2 * (number + 1) if head == "multi_head" else 2)
        assert [names(strategy, group) for group in groups] == [
            classifier,
            {name for name in everything if name.startswith(("model.body.", "a."))},
            {"b.weight", "b.bias"},
        ]
        assert [group["lr"] for group in groups] == [0.1, 0.05, 0.01]


def test_wrapping_the_model_moves_no_parameter_to_another_group() -> None:
    """Row 41: names get a prefix and the classifier becomes a head of task 0; the parameters are the same objects."""
    strategy, stream = Grouped(net("linear")), toy().train
    trainer, made = watched(strategy)
    trainer.train(stream[0])
    strategy.model = as_multitask(strategy.model, "classifier")
    trainer.train(stream[1])
    before, after = ([[id(p) for p in group["params"]] for group in one.param_groups] for one in made)
    assert after[0][:2] == before[0]
    assert after[1:] == before[1:]
    assert names(strategy, made[1].param_groups[0]) == {
        f"model.classifier.classifiers.{task}.{kind}" for task in (0, 1) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_module_comes_and_goes(kind: str) -> None:
    """Row 42, 43: a Linear(10, 10) joins for one experience: optimized and with state then, gone without a trace after.
    There it stays in the optimizer unless one says remove_params."""
    strategy = Finetune(net("incremental"))
    trainer, made = watched(strategy, OPTIMIZERS[kind][0], optimizer_state="keep")
    stream = toy(scenario="class_incremental").train
    trainer.train(stream[0])
    strategy.model.body.append(nn.Linear(10, 10))
    added = list(strategy.model.body[-1].parameters())
    trainer.train(stream[1])
    assert all(id(p) in {id(q) for q in made[1].param_groups[0]["params"]} and made[1].state[p] for p in added)
    del strategy.model.body[-1]
    trainer.train(stream[2])
    assert set(made[2].state) == set(strategy.parameters()) == set(made[2].param_groups[0]["params"])


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_growth_keeps_what_the_optimizer_knows_of_old_rows(kind: str, head: str) -> None:
    """Row 43: one head that gets two rows in each experience. At its first step the old rows have the state that they
    ended the last one with, bit for bit, and the new rows zeros; other parameters keep theirs. There the state of what
    grew is lost."""
    strategy, ends, checked = Looking(net(head)), {}, []
    optimizer, keys = OPTIMIZERS[kind]
    trainer, made = watched(strategy, optimizer, optimizer_state="keep", batch_size=30)

    def first(experience: int) -> None:
        checked.append(experience)
        for name, parameter in strategy.named_parameters() if experience else ():
            for key in keys:
                found, old = made[-1].state[parameter][key], ends[name][key]
                assert found.shape == parameter.shape
                assert torch.equal(found[: len(old)], old)
                assert old.any()
                assert not found[len(old) :].any()
            assert made[-1].state[parameter].get("step", 0) == ends[name].get("step", 0)

    strategy.first = first
    for experience in toy(task_labels=False).train:
        trainer.train(experience)
        ends = {n: {k: v.clone() for k, v in made[-1].state[p].items()} for n, p in strategy.named_parameters()}
    assert checked == [0, 1, 2, 3, 4]
    assert {len(value["exp_avg" if kind != "sgd" else "momentum_buffer"]) for value in ends.values()} == {10}


def test_embeddings_that_become_old_keep_their_momentum() -> None:
    """Row 43: the split cosine head counts its second block among the old ones when a third comes."""
    strategy, found, stream = Looking(net("split_cosine")), [], toy(scenario="class_incremental").train
    trainer, made = watched(strategy, optimizer_state="keep")
    trainer.train(stream[:2])
    blocks = strategy.model.classifier.blocks
    expected = torch.cat([made[-1].state[block]["momentum_buffer"] for block in blocks.values()]).clone()
    strategy.first = lambda _: found.append(
        torch.cat([made[-1].state[block]["momentum_buffer"] for block in strategy.model.classifier.old])
    )
    trainer.train(stream[2])
    assert expected.any(1).all()
    assert torch.equal(found[0], expected)


class HeadAlone(Finetune):
    def get_parameters(self, experience: Experience) -> list[dict[str, Any]]:
        return [{"params": list(self.model.classifier.parameters())}]


@pytest.mark.parametrize("head", ["incremental", "multi_head", "split_cosine"])
def test_what_a_strategy_leaves_out_stays_out(head: str) -> None:
    """Row 2, 39: there the first experience puts every parameter into the optimizer, also those that were left out."""
    strategy = HeadAlone(net(head))
    body = [p.detach().clone() for p in strategy.model.body.parameters()]
    trainer, made = watched(strategy)
    for experience in toy().train:
        trainer.train(experience)
        optimized = names(strategy, made[-1].param_groups[0])
        assert optimized == {f"model.{n}" for n, _ in strategy.model.named_parameters() if n.startswith("classifier.")}
    assert all(torch.equal(a, b) for a, b in zip(strategy.model.body.parameters(), body, strict=True))


@pytest.mark.parametrize("head", ["incremental", "multi_head", "as_multitask"])
def test_what_is_frozen_stays_frozen_through_growth(head: str) -> None:
    """Row 39: the weight of a head that grows from 2 to 10 rows: its old rows keep their bits; the bias trains."""
    strategy, stream = Finetune(net(head)), toy(task_labels=False).train
    trainer, made = watched(strategy)
    trainer.grow(stream[0])
    name = next(n for n, p in strategy.named_parameters() if n.startswith("model.classifier") and p.dim() == 2)
    strategy.get_parameter(name).requires_grad_(False)
    old, bias = strategy.get_parameter(name).clone(), strategy.get_parameter(name.replace("weight", "bias")).clone()
    for experience in stream:
        trainer.train(experience)
        weight = strategy.get_parameter(name)
        assert not weight.requires_grad
        assert len(weight) == len(experience.classes_seen)
        assert names(strategy, made[-1].param_groups[0]) == {n for n, _ in strategy.named_parameters()} - {name}
        assert torch.equal(weight[: len(old)], old)
        old = weight.clone()
    assert not torch.equal(strategy.get_parameter(name.replace("weight", "bias"))[:2], bias)
