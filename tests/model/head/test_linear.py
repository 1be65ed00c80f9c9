"""A head of fixed size."""

from __future__ import annotations

import pytest
import torch

from clx.build import build
from clx.config import Conflict, compose, plain
from clx.model.head.linear import LinearClassifier
from clx.types import Experience


def test_it_has_all_its_units_from_the_start_and_never_grows() -> None:
    head = LinearClassifier(3, num_classes=4)
    parameters = list(head.parameters())
    head.adaptation(Experience(index=0, classes=(0, 1)))
    head.adaptation(Experience(index=1, classes=(2, 3)))
    assert all(a is b for a, b in zip(head.parameters(), parameters, strict=True))
    x = torch.tensor([[1.0, 2.0, -1.0]])
    torch.testing.assert_close(head(x), x @ parameters[0].T + parameters[1])
    assert [p.shape for p in LinearClassifier(3, 4, bias=False).parameters()] == [(4, 3)]


def test_a_class_without_a_unit() -> None:
    with pytest.raises(ValueError, match=r"^num_classes 2 < 4 "):
        LinearClassifier(3, num_classes=2).adaptation(Experience(index=0, classes=(0, 3)))


def test_too_few_units_for_the_benchmark_are_refused_before_training() -> None:
    with pytest.raises(Conflict, match=r"model\.head\.num_classes=3 < 10 classes"):
        build(plain(compose(["model/head=linear", "+model.head.num_classes=3"])))


def test_the_build_gives_it_the_classes_of_the_benchmark() -> None:
    made = build(plain(compose(["benchmark=synthetic", "benchmark.data.num_classes=6", "benchmark.num_experiences=2",
                                "model/head=linear", "strategy=finetune"])))  # fmt: skip
    head = made.trainer.strategy.model.classifier
    assert isinstance(head, LinearClassifier)
    assert head.classifier.out_features == 6


def test_a_number_below_one() -> None:
    with pytest.raises(ValueError, match=r"^num_classes 0 < 1"):
        LinearClassifier(3, num_classes=0)
