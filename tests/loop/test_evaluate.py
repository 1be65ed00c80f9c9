"""Accuracy from scores that are made by hand: a sample is the row of its scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from clx.loop.evaluate import Evaluator
from clx.strategy.finetune import Finetune
from clx.types import Samples


class Saying(Finetune):
    """Its scores are its inputs; it notes the mode it is asked in, and the size of each batch."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self.modes: list[tuple[bool, bool]] = []
        self.sizes: list[int] = []

    def inference(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
        assert task_labels is not None
        assert len(task_labels) == len(x)
        self.modes.append((self.training, torch.is_grad_enabled()))
        self.sizes.append(len(x))
        return x


def samples(*rows: tuple[list[float], int]) -> Samples:
    y = torch.tensor([label for _, label in rows])
    return Samples(torch.tensor([scores for scores, _ in rows]), y, torch.zeros_like(y))


def scored() -> list[Samples]:
    """Classes 0 1 in the first set: right; right among 0 1 alone; wrong. Class 2 in the second: right among 2 alone."""
    first = samples(([0.9, 0.1, 0.0], 0), ([0.1, 0.2, 0.9], 1), ([0.3, 0.6, 0.0], 0))
    return [first, samples(([0.0, 0.5, 0.4], 2))]


@pytest.mark.parametrize("batch_size", [1, 2, 10])
@pytest.mark.parametrize("classes", [None, [(0, 1), (2,)]])
def test_plain_and_task_aware(classes: list[tuple[int, ...]] | None, batch_size: int) -> None:
    """Of 3 and of 1 samples: 1/3 and 0 over all columns, 2/3 and 1 over the set's own."""
    plain, aware = Evaluator(scored(), classes)(Saying(), batch_size, known_classes=range(3))
    assert plain == pytest.approx([1 / 3, 0])
    assert aware == pytest.approx([2 / 3, 1])


@pytest.mark.parametrize("width", [2, 3])
def test_a_class_without_a_column(width: int) -> None:
    """2 classes seen: the second set is not measured. Columns beyond them, if there are any, do not count, so the
    second sample of the first set is right: 2/3 both ways."""
    sets = scored()
    sets = [Samples(s.data[:, :width].contiguous(), s.y, s.t) for s in sets]
    plain, aware = Evaluator(sets)(Saying(), 10, known_classes=range(2))
    assert [plain[0], aware[0]] == pytest.approx([2 / 3, 2 / 3])
    assert math.isnan(plain[1])
    assert math.isnan(aware[1])


def test_an_experience_that_was_left_out() -> None:
    """Classes 0 and 2 have come: the set of 1 has a column, and nobody was ever trained for it."""
    sets = [samples(([0.0, 1.0, 0.0], 1)), samples(([0.0, 0.0, 1.0], 2))]
    plain, _ = Evaluator(sets)(Saying(), 10, known_classes={0, 2})
    assert math.isnan(plain[0])
    assert plain[1] == 1


def test_one_class_of_several_without_a_column() -> None:
    """A set with classes 1 and 2 is not measured while 2 has no column, although its sample of class 1 could be."""
    plain, _ = Evaluator([samples(([0.0, 1.0, 0.0], 1), ([0.0, 0.0, 1.0], 2))])(Saying(), 10, known_classes=range(2))
    assert math.isnan(plain[0])


def test_a_task_that_was_never_trained() -> None:
    """Both sets have columns. Where the model answers by task label, the one of the unknown task 5 is not measured,
    and nobody asks for it."""
    sets = scored()
    sets[1] = Samples(sets[1].data, sets[1].y, torch.tensor([5]))
    strategy = Saying()
    plain, _ = Evaluator(sets)(strategy, 10, known_classes=range(3), known_tasks={0, 1})
    assert plain[0] == pytest.approx(1 / 3)
    assert math.isnan(plain[1])
    assert strategy.sizes == [3]
    assert Evaluator(sets)(Saying(), 10, known_classes=range(3), known_tasks={0, 5, 1})[0][1] == 0
    assert Evaluator(sets)(Saying(), 10, known_classes=range(3))[0][1] == 0


@pytest.mark.parametrize("num_columns", [0, 2])
def test_nothing_to_measure(num_columns: int) -> None:
    """Before anything is learned no strategy is asked."""
    strategy = Saying()
    plain, aware = Evaluator([samples(([0.0, 0.0, 1.0], 2))])(strategy, 10, known_classes=range(num_columns))
    assert [math.isnan(value) for value in (*plain, *aware)] == [True, True]
    assert sum(strategy.sizes) == 0


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored(training: bool) -> None:
    strategy = Saying().train(training)
    Evaluator(scored())(strategy, 2, known_classes=range(3))
    assert strategy.modes == [(False, False), (False, False)]
    assert strategy.training == strategy.model.training == training


def views(sets: Sequence[Samples]) -> list[Samples]:
    """The same samples as views of one storage, in another order there."""
    whole = sets[1] + sets[0]
    return [whole[torch.tensor([1, 2, 3])], whole[:1]]


def test_sets_that_share_their_storage_are_not_copied() -> None:
    """And large batches run over the borders of the sets: 4 samples in batches of 3 and 1."""
    sets, strategy = views(scored()), Saying()
    evaluator = Evaluator(sets)
    assert evaluator.samples.data is sets[0].data
    plain, aware = evaluator(strategy, 3, known_classes=range(3))
    assert (plain, aware) == (pytest.approx([1 / 3, 0]), pytest.approx([2 / 3, 1]))
    assert strategy.sizes == [3, 1]


def test_sets_with_the_same_classes() -> None:
    """Domains: the same scores are right in one set and wrong in the other; both answers are the same task-aware."""
    sets = [samples(([0.9, 0.1], 0), ([0.2, 0.8], 1)), samples(([0.9, 0.1], 1), ([0.2, 0.8], 1))]
    plain, aware = Evaluator(sets, [(0, 1), (0, 1)])(Saying(), 10, known_classes=range(2))
    assert plain == aware == [1.0, 0.5]
