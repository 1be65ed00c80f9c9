"""The recipe for progressive networks."""

from __future__ import annotations

import pytest
import torch

from clx.build import Built, build
from clx.config import Conflict, compose, plain
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.pnn import PNN
from clx.strategy.finetune import Finetune
from clx.validation import check

TINY = [
    "strategy=pnn",
    "benchmark=synthetic",
    "benchmark.data.shape=[1,4,4]",
    "benchmark.data.num_classes=6",
    "benchmark.data.train_per_class=20",
    "benchmark.data.noise=32.0",
    "benchmark.num_experiences=3",
    "model.num_layers=2",
    "trainer.epochs=2",
    "trainer.device=cpu",
    "optimizer.momentum=0.9",
    "optimizer.weight_decay=0.1",
]


def built(scenario: str) -> Built:
    config = plain(compose([*TINY, f"benchmark.scenario={scenario}"]))
    check(config)
    return build(config)


def test_it_is_finetune_of_the_model() -> None:
    strategy = built("task_incremental").trainer.strategy
    assert type(strategy) is Finetune
    assert isinstance(strategy.model, PNN)
    assert isinstance(strategy.model.classifier, MultiHeadClassifier)


def test_old_columns_stay_bit_for_bit() -> None:
    """Momentum and weight decay included: the third task moves its own column and head alone."""
    made = built("task_incremental")
    made.trainer.train(made.benchmark.train[:2])
    model = made.trainer.strategy.model
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    x = made.benchmark.transform.eval(made.benchmark.train[0].data.raw)
    before = [model.eval()(x, task)[:, :4] for task in (0, 1)]
    made.trainer.train(made.benchmark.train[2:])
    after = [model.eval()(x, task)[:, :4] for task in (0, 1)]
    found = dict(model.named_parameters())
    assert all(torch.equal(found[name], value) for name, value in kept.items())
    assert all(name.startswith(("columns.2.", "classifier.classifiers.2.")) for name in found.keys() - kept.keys())
    assert len(found.keys() - kept.keys()) == 4 + 2 * 4 + 2  # two layers, two adapters, a head
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_without_task_labels_it_is_refused() -> None:
    with pytest.raises(Conflict, match=r"set benchmark\.scenario=task_incremental$"):
        built("class_incremental")
