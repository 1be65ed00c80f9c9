"""What heads and nets keep to over a stream, row by row of a list of 50 behaviours of continual-learning libraries.

Here rows 1 to 9, 17, 31, 36, 37 and batches of one. Rows 10 to 30 and 38: test_behaviour_multi_task.py; rows 2, 3, 20
and 39 to 43: ../loop/test_behaviour_optimizer.py; rows 44 to 50: ../loop/test_behaviour.py. "There" is the library that
the list was read off; where clx does otherwise, the test says so. Rows that other tests keep already:
Row 8: head/test_incremental.py::test_before_any_experience_every_unit_is_masked.
Rows 32, 33: head/test_ncm.py::test_given_means. Row 34: ::test_classes_without_any_mean_still_have_a_column.
Row 35: ::test_means_load_into_a_fresh_head; of other heads head/test_state.py and
test_multi_task.py::test_a_grown_one_loads_into_a_fresh_one.
Row 36: head/test_split_cosine.py::test_earlier_blocks_are_old_and_the_last_is_new.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.benchmark.split import Split
from clx.build import build
from clx.command.list import options
from clx.config import compose, plain
from clx.data.synthetic import Synthetic
from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.dynamic import as_multitask, model_adaptation, needs_task_labels
from clx.model.head.cosine import CosineClassifier
from clx.model.head.incremental import IncrementalClassifier
from clx.model.head.linear import LinearClassifier
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.head.ncm import NCMClassifier
from clx.model.head.split_cosine import SplitCosine
from clx.model.pnn import PNN
from clx.model.simple_cnn import SimpleCNN
from clx.model.train_eval import TrainEvalModel
from clx.strategy.finetune import Finetune
from clx.strategy.ncm import NCM
from clx.types import Batch, Experience


def toy(**keys: Any) -> Split:
    """10 classes of 6 features over 5 experiences, 60 training and 40 test samples a class."""
    data = Synthetic([1, 2, 3], num_classes=10, train_per_class=60, test_per_class=40, noise=32.0, seed=0)
    return Split(**{"data": data, "num_experiences": 5, "scenario": "task_incremental"} | keys)


class Normed(Model):
    """6 -> 10 features through a BatchNorm, which a batch of one leaves a single value for each channel."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU())
        self.feature_dim, self.classifier = 10, head

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


NETS: dict[str, Callable[[], Any]] = {
    "incremental": lambda: Normed(IncrementalClassifier(10)),
    "linear": lambda: Normed(LinearClassifier(10, num_classes=10)),
    "multi_head": lambda: Normed(MultiHeadClassifier(10)),
    "cosine": lambda: Normed(CosineClassifier(10)),
    "split_cosine": lambda: Normed(SplitCosine(10)),
    "ncm": lambda: Normed(NCMClassifier(10)),
    "as_multitask": lambda: as_multitask(Normed(nn.Linear(10, 2)), "classifier"),
    "pnn": lambda: PNN(num_layers=2, input_size=6, hidden_features_per_column=10),
}


def learner(name: str, **settings: Any) -> Trainer:
    torch.manual_seed(0)
    strategy = (NCM if name == "ncm" else Finetune)(NETS[name]())
    return Trainer(strategy, **{"device": "cpu"} | settings)


def of(*classes: int, index: int = 0) -> Experience:
    return Experience(index=index, classes=classes)


# ------------------------------------------------------------------------------------------------ growth


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("masking", [True, False])
@pytest.mark.parametrize(("units", "classes", "width"), [(2, (8, 9), 10), (1, (2, 7), 8), (2, (12,), 13)])
def test_a_head_grows_to_the_largest_class(
    units: int, classes: tuple[int, ...], width: int, masking: bool, training: bool
) -> None:
    """Row 1, 6, 7, 9: (2, 10) becomes (10, 10), (1, 10) becomes (8, 10), (2, 10) becomes (13, 10); the first rows are
    the old ones. In eval mode too: nothing adapts in order to evaluate, so the mode need not be asked."""
    head = IncrementalClassifier(10, units, masking=masking).train(training)
    weight, bias = (p.detach().clone() for p in head.parameters())
    assert (weight.shape, bias.shape) == ((units, 10), (units,))
    head.adaptation(of(*classes))
    assert (head.classifier.weight.shape, head.classifier.bias.shape) == ((width, 10), (width,))
    assert torch.equal(head.classifier.weight[:units], weight)
    assert torch.equal(head.classifier.bias[:units], bias)
    assert head.active_units.nonzero().flatten().tolist() == list(classes)
    masked = (head(torch.ones(1, 10)) == -1000).flatten().tolist()
    assert masked == [masking and column not in classes for column in range(width)]


def test_units_of_classes_seen_answer_and_no_others() -> None:
    """Row 4: classes in no order, two at a time, into a head of 6 features."""
    head, seen, x = IncrementalClassifier(6), set(), torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    for index, classes in enumerate([(4, 1), (0, 8), (7, 5), (9, 2), (3, 6)]):
        head.adaptation(of(*classes, index=index))
        seen |= set(classes)
        logits = head(x)
        assert logits.shape == (7, max(seen) + 1)
        for column, scores in enumerate(logits.T):
            assert bool((scores == -1000).all() if column not in seen else (scores.abs() < 100).all())


@pytest.mark.parametrize("name", NETS)
def test_there_is_a_column_for_each_class_so_far(name: str) -> None:
    """Row 4, 37: 2 4 6 8 10 columns, shuffled or not, because classes are numbered as they arrive."""
    net, widths = NETS[name]().eval(), []
    for number, experience in enumerate(toy(shuffle=True).train):
        model_adaptation(net, experience)
        logits = net(torch.zeros(3, 1, 2, 3), number)
        widths.append(logits.shape[1])
        own = logits[:, list(experience.classes)]
        assert bool((own == -1000).all()) == (name == "ncm")  # which has no mean yet
    assert widths == ([10] * 5 if name == "linear" else [2, 4, 6, 8, 10])


@pytest.mark.parametrize("kind", [CosineClassifier, SplitCosine])
def test_every_embedding_trains(kind: type[CosineClassifier]) -> None:
    """Row 36, 37: of 32 features, after (0, 1) and (2, 3) four columns, and a gradient for each embedding."""
    head = kind(32)
    for index in range(2):
        head.adaptation(of(2 * index, 2 * index + 1, index=index))
    logits = head(torch.randn(5, 32, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (5, 4)
    logits.square().sum().backward()
    assert all(bool(p.grad.abs().flatten(1).sum(1).all()) for p in head.blocks.values())


class Watching(Finetune):
    """Keeps a copy of the head's weight and of its gradient at every step."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.seen: list[tuple[int, Tensor, Tensor]] = []

    def after_backward(self, batch: Batch) -> None:
        weight = self.model.classifier.classifier.weight
        self.seen.append((batch.clock.experience, weight.detach().clone(), weight.grad.clone()))


def test_rows_without_a_class_are_never_trained() -> None:
    """Row 3, 6: 12 units, and of ten classes first 0 1, then 8 9, then 2 3, with momentum: the rows of other classes
    have no gradient and keep their bits until their class comes; those of the classes seen move."""
    strategy = Watching(Normed(IncrementalClassifier(10, 12)))
    momentum = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    trainer = Trainer(strategy, momentum, device="cpu", optimizer_state="keep")
    stream, seen = toy(scenario="class_incremental").train, set()
    start = strategy.model.classifier.classifier.weight.detach().clone()
    for index in (0, 4, 1):
        trainer.train(stream[index])
        seen |= set(stream[index].classes)
        idle = [row for row in range(12) if row not in seen]
        for _, weight, gradient in [step for step in strategy.seen if step[0] == index]:
            assert not gradient[idle].any()
            assert torch.equal(weight[idle], start[idle])
        assert torch.equal(strategy.model.classifier.classifier.weight[idle], start[idle])
        moved = (strategy.seen[-1][1] != start).any(1).nonzero().flatten().tolist()
        assert moved == sorted(seen)


# ------------------------------------------------------------------------------------------------ evaluation


def everything(strategy: nn.Module) -> tuple[dict[str, Tensor], list[int]]:
    """Every tensor by name, those outside the state too, and which objects the parameters are."""
    tensors = {**strategy.state_dict(), **dict(strategy.named_buffers())}
    return {name: value.clone() for name, value in tensors.items()}, [id(p) for p in strategy.parameters()]


@pytest.mark.parametrize("name", NETS)
def test_evaluating_what_is_to_come_changes_nothing(name: str) -> None:
    """Row 5, 9, 16, 17: the whole stream is evaluated after each experience. No head, unit, column, mask, statistic or
    random number comes of it; sets that are to come are None, in the matrix NaN, and to ask for their task is an
    error."""
    benchmark, trainer = toy(), learner(name)
    for number, experience in enumerate(benchmark.train):
        trainer.train(experience)
        (before, objects), random = everything(trainer.strategy), torch.get_rng_state()
        found = trainer.eval(benchmark.test)
        trainer.evaluate(benchmark.test)
        if needs_task_labels(trainer.strategy) and number < 4:
            with pytest.raises(ValueError, match=f"^task_labels {number + 1}: "):
                trainer.strategy.eval().inference(torch.zeros(2, 6), torch.tensor([0, number + 1]))
        after, still = everything(trainer.strategy)
        assert list(after) == list(before)
        assert all(torch.equal(value, before[key]) for key, value in after.items())
        assert still == objects
        assert torch.equal(torch.get_rng_state(), random)
        expected = [j > number for j in range(5)]
        assert [found[f"accuracy/{j}"] is None for j in range(5)] == expected
        assert [math.isnan(value) for value in trainer.matrix.plain[number + 1]] == expected


def test_an_untrained_task_is_none_where_its_classes_are_known() -> None:
    """Row 17: domains with task labels share classes 0 and 1; a task that never came is not guessed at."""
    benchmark, trainer = toy(scenario="domain_incremental", task_labels=True), learner("multi_head")
    trainer.train(benchmark.train[:2])
    assert [value is None for value in trainer.eval(benchmark.test).values()] == [False, False, True, True, True, False]


# ------------------------------------------------------------------------------------------------ two classifiers


def test_the_mode_chooses_the_classifier() -> None:
    """Row 31: features of a SimpleCNN; 10 columns in training mode, 7 in eval mode."""
    heads = nn.Linear(64, 10), nn.Linear(64, 7)
    model = TrainEvalModel(SimpleCNN().body, *heads, feature_dim=64)
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert model.train()(x).shape == (3, 10)
    assert model.eval()(x).shape == (3, 7)
    assert torch.equal(model(x), heads[1](model.features(x)))


def test_both_classifiers_grow_and_the_first_alone_is_trained() -> None:
    """Row 31, over two experiences: both have 4 columns; evaluation answers with the one that nobody trained."""
    torch.manual_seed(0)
    body, heads = Normed(nn.Identity()).body, (IncrementalClassifier(10), IncrementalClassifier(10))
    model, benchmark = TrainEvalModel(body, *heads, feature_dim=10), toy(scenario="class_incremental")
    trainer = Trainer(Finetune(model), device="cpu")
    trainer.train(benchmark.train[:1])
    before = [head.classifier.weight.detach().clone() for head in heads]
    trainer.train(benchmark.train[1])
    assert [head.classifier.weight.shape for head in heads] == [(4, 10), (4, 10)]
    moved = [not torch.equal(head.classifier.weight[:2], old) for head, old in zip(heads, before, strict=True)]
    assert moved == [True, False]
    with torch.no_grad():
        heads[1].classifier.weight.zero_()
        heads[1].classifier.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))  # always class 0, half of the first set
    assert trainer.eval(benchmark.test)["accuracy/0"] == 0.5


# ------------------------------------------------------------------------------------------------ batches of one


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("name", NETS)
def test_one_sample_is_a_batch(name: str, batch_size: int) -> None:
    """6 samples one by one, or 5 and a last one alone, to train and to evaluate."""
    benchmark = toy(samples_per_class=3, test_samples_per_class=3)
    trainer = learner(name, batch_size=batch_size, eval_batch_size=batch_size)
    trainer.train(benchmark.train)
    assert trainer.total_step == (0 if name == "ncm" else 5 * -(-6 // batch_size))
    assert None not in trainer.eval(benchmark.test).values()
    assert all(bool(value.isfinite().all()) for value in trainer.strategy.state_dict().values())


@pytest.mark.parametrize("name", options("model"))
def test_every_model_trains_on_one_image(name: str) -> None:
    """Two images of 32x32, one by one, through the Trainer, which prepares every BatchNorm for it."""
    words = ["benchmark=synthetic", "benchmark.data.train_per_class=1", "benchmark.data.num_classes=2",
             "benchmark.num_experiences=1", "benchmark.image_size=32", "benchmark.scenario=task_incremental",
             f"model={name}", "strategy=finetune", "trainer.batch_size=1", "trainer.epochs=1"]  # fmt: skip
    made = build(plain(compose([*words, "trainer.device=cpu"])))
    made.trainer.train(made.benchmark.train)
    assert made.trainer.total_step == 2
    assert all(bool(value.isfinite().all()) for value in made.trainer.strategy.state_dict().values())
