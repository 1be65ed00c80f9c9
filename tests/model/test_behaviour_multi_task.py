"""What heads for each task keep to over a stream: rows 10 to 30 and 38 of the list (see test_behaviour.py).

Rows that other tests keep already:
Rows 15, 16: head/test_multi_head.py::test_each_sample_is_answered_by_its_own_head (a batch of several tasks, learned
at once, masked) and ::test_a_task_without_a_head. Row 23: test_dynamic.py::test_every_dynamic_module_once_...
Rows 25, 26, 27: test_multi_task.py::test_the_old_classifier_is_the_head_of_task_0. Row 28:
::test_attributes_are_those_of_the_wrapped_model. Row 29: ::test_modes_devices_and_copies_stay_multi_task.
"""

from __future__ import annotations

import contextlib
import copy
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.benchmark.split import Split
from clx.data.synthetic import Synthetic
from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.dynamic import as_multitask, model_adaptation
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.pnn import PNN
from clx.model.simple_mlp import SimpleMLP
from clx.regularizer.ewc_online import EWCOnline
from clx.regularizer.lwf import LwF
from clx.strategy.finetune import Finetune
from clx.types import Experience

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
MIXED = [0, 4, 0, 4, 1, 4, 0, 2]
MASK = -1000.0


def toy(**keys: Any) -> Split:
    """10 classes of 6 features in 5 tasks, 60 training and 40 test samples a class."""
    data = Synthetic([1, 2, 3], num_classes=10, train_per_class=60, test_per_class=40, noise=32.0, seed=0)
    return Split(**{"data": data, "num_experiences": 5, "scenario": "task_incremental"} | keys)


def task(label: int, *classes: int) -> Experience:
    return Experience(index=label, classes=classes, classes_by_task={label: classes})


def adapted(module: nn.Module) -> Any:
    """After the five tasks, two classes each."""
    for experience in toy().train:
        model_adaptation(module, experience)
    return module


# ------------------------------------------------------------------------------------------------ heads


def test_a_head_has_a_unit_for_each_class_of_its_task() -> None:
    """Row 10, 11: 70 parameters of 6 -> 10 features and 22 for each head of two units: 92, then 180 in the end. There
    head t is as wide as its largest class, 2 4 6 8 10, which makes 400. A second pass changes nothing."""
    model = SimpleMLP(input_size=6, hidden_size=10)
    model.classifier, counts = MultiHeadClassifier(10), []
    for experience in toy().train:
        model_adaptation(model, experience)
        counts.append(sum(p.numel() for p in model.parameters()))
    assert counts == [92, 114, 136, 158, 180]
    assert model.classifier.num_columns == 10
    assert [head.out_features for head in model.classifier.classifiers.values()] == [2] * 5
    before, state = list(model.parameters()), {name: value.clone() for name, value in model.state_dict().items()}
    adapted(model)
    assert all(a is b for a, b in zip(model.parameters(), before, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("masking", [True, False])
def test_every_form_of_the_labels_gives_the_same_columns(masking: bool) -> None:
    """Row 12, 13: both scores of task 0 below zero, and still one of its classes is the answer, because the other
    eight columns hold mask_value, not 0, for a number as for a list or a tensor."""
    head = adapted(MultiHeadClassifier(6, masking=masking))
    with torch.no_grad():
        head.classifiers["0"].bias.fill_(-50.0)
    scores = head.classifiers["0"](X)
    assert scores.max() < 0
    for labels in (0, [0] * 8, torch.zeros(8, dtype=torch.int64)):
        logits = head(X, labels)
        assert logits.shape == (8, 10)
        assert torch.equal(logits[:, :2], scores)
        assert bool((logits[:, 2:] == MASK).all())
        assert torch.equal(logits.argmax(1), scores.argmax(1))


def test_each_task_answers_in_its_own_columns_alone() -> None:
    """Row 14: heads of 4 units for two classes each; at every moment of the stream and for every task met."""
    head = MultiHeadClassifier(6, initial_out_features=4)
    for number, experience in enumerate(toy().train):
        head.adaptation(experience)
        for label in range(number + 1):
            active = [column in (2 * label, 2 * label + 1) for column in range(2 * number + 2)]
            assert (head(X, label) != MASK).tolist() == [active] * 8


def test_without_labels_every_task_that_was_trained_answers() -> None:
    """Row 18: tasks 3 and 1, whatever else was evaluated."""
    model = SimpleMLP(input_size=6, hidden_size=10, drop_rate=0.0)
    model.classifier = MultiHeadClassifier(10)
    benchmark, trainer = toy(), Trainer(Finetune(model), device="cpu")
    for label in (3, 1):
        trainer.train(benchmark.train[label])
        trainer.eval(benchmark.test)
    features = model.eval().features(X)
    answers = model.classifier(features, None)
    assert list(answers) == [3, 1]
    for label, logits in answers.items():
        assert torch.equal(logits, model(X, label))


@pytest.mark.parametrize("labels", [[0, 4], torch.tensor([0, 4, 1] * 4), [0] * 3])
def test_a_label_too_few_or_too_many_is_an_error(labels: list[int] | Tensor) -> None:
    """Row 19: eight samples; none of them may vanish, and none be answered by a label that is not its own."""
    with pytest.raises(ValueError, match=r"^task_labels "):
        adapted(MultiHeadClassifier(6))(X, labels)


# ------------------------------------------------------------------------------------------------ mixed batches


class Normed(Model):
    """6 -> 10 features through a BatchNorm."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU())
        self.feature_dim, self.classifier = 10, head

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


def normed(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "multi_head":
        return adapted(Normed(MultiHeadClassifier(10)))
    return adapted(as_multitask(Normed(nn.Linear(10, 2)), "classifier"))


KINDS = pytest.mark.parametrize("kind", ["multi_head", "as_multitask"])


@KINDS
@pytest.mark.parametrize("training", [True, False])
def test_a_mixed_batch_is_one_batch_to_the_backbone(kind: str, training: bool) -> None:
    """Row 19: it runs once, its BatchNorm takes the statistics of all eight samples, and rows keep their order."""
    model, calls = normed(kind).train(training), []
    plain = copy.deepcopy(model.body)
    features = plain(X)
    model.body.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    logits = model(X, torch.tensor(MIXED))
    assert calls == [8]
    wanted = plain.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.body.state_dict().items())
    for row, label in enumerate(MIXED):
        linear = model.classifier.classifiers[str(label)]
        expected = torch.full((10,), MASK)
        expected[2 * label : 2 * label + 2] = linear(features[row])
        torch.testing.assert_close(logits[row], expected)


@KINDS
@pytest.mark.parametrize("labels", [MIXED, torch.tensor(MIXED), [4] * 8, 4], ids=["list", "tensor", "alike", "int"])
@pytest.mark.parametrize("how", ["module", "autocast"])
def test_bfloat16_stays_bfloat16(how: str, labels: Any, kind: str) -> None:
    """Row 12, 19: the columns of other tasks too; -1000 is a bfloat16."""
    model, x, context = normed(kind), X, contextlib.nullcontext()
    if how == "module":
        model, x = model.to(torch.bfloat16), X.bfloat16()
    else:
        context = torch.autocast("cpu", torch.bfloat16)
    with context:
        logits = model(x, labels)
    assert (logits.dtype, logits.shape) == (torch.bfloat16, (8, 10))
    assert (logits == MASK).sum(1).tolist() == [8] * 8


# ------------------------------------------------------------------------------------------------ adaptation


def test_adaptation_finds_heads_anywhere_and_ends() -> None:
    """Row 21, 22: in a plain Sequential; two heads that hold each other."""
    first, second = MultiHeadClassifier(6), MultiHeadClassifier(6)
    first.other, second.other = second, first
    adapted(nn.Sequential(nn.Identity(), first))
    assert first.known_tasks == second.known_tasks == [0, 1, 2, 3, 4]
    assert first(X, MIXED).shape == second(X, MIXED).shape == (8, 10)


def test_adaptation_of_one_module_is_of_it_alone() -> None:
    """Row 24. There a child with auto_adapt=False is adapted only when it is called itself; here each module's own
    adaptation leaves its children alone, and model_adaptation or recursive_adaptation reaches all of them."""
    model = as_multitask(SimpleMLP(num_classes=2, input_size=6, hidden_size=10), "classifier")
    model.adaptation(task(0, 0, 1))
    assert (model.known_tasks, model.classifier.known_tasks) == ([0], [])
    model.classifier.adaptation(task(0, 0, 1))
    assert (model.known_tasks, model.classifier.known_tasks) == ([0], [0])
    model.recursive_adaptation(task(1, 2, 3))
    assert model.known_tasks == model.classifier.known_tasks == [0, 1]


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("method", ["finetune", "lwf", "ewc_online"])
def test_a_wrapped_model_trains_over_five_tasks(method: str) -> None:
    """Row 30: after each task every test set so far is measured. Two classes: 0.5 is chance, the last task is learned
    above 0.7."""
    torch.manual_seed(0)
    net = SimpleMLP(num_classes=2, input_size=6, hidden_size=20, drop_rate=0.0)
    made = {"lwf": LwF(1.0, temperature=2.0), "ewc_online": EWCOnline(0.5, decay=1.0, labels="sampled", seed=0)}
    regularizers = {name: regularizer for name, regularizer in made.items() if name == method}
    strategy = Finetune(as_multitask(net, "classifier"))
    trainer = Trainer(strategy, epochs=5, batch_size=20, device="cpu", regularizers=regularizers)
    benchmark = toy()
    for number, experience in enumerate(benchmark.train):
        trainer.train(experience)
        found = trainer.eval(benchmark.test[: number + 1])
        assert len(found) == number + 2
        assert None not in found.values()
        assert found[f"accuracy/{number}"] > 0.7


def test_tasks_learned_together_are_all_remembered() -> None:
    """Row 15 in the loop: experience t has the data of tasks 0 to t (cumulative), heads are masked, and the average
    accuracy passes 0.7; two classes a task, so 0.5 is chance."""
    torch.manual_seed(0)
    model = SimpleMLP(input_size=6, hidden_size=20, drop_rate=0.0)
    model.classifier = MultiHeadClassifier(20)
    benchmark = toy(accumulate="cumulative")
    sgd = partial(torch.optim.SGD, lr=0.05)
    metrics = Trainer(Finetune(model), sgd, epochs=3, batch_size=20, device="cpu").train(
        benchmark.train, benchmark.test
    )
    assert metrics["average_accuracy"] > 0.7
    assert model.classifier.known_tasks == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------------------ progressive nets


@pytest.fixture
def progressive() -> PNN:
    torch.manual_seed(0)
    return PNN(num_layers=2, input_size=6, hidden_features_per_column=10)


def test_a_column_for_each_task_answers_for_any_form_of_its_label(progressive: PNN) -> None:
    """Row 38: two layers, 6 -> 10 features, after two tasks: a tensor of either label, both mixed, one sample; and a
    task without a column is an error, not a new column."""
    model, stream = progressive, toy().train
    for experience in stream[:2]:
        model_adaptation(model, experience)
    model.eval()
    alone = [model(X, torch.full((8,), label)) for label in range(2)]
    for label, logits in enumerate(alone):
        assert logits.shape == (8, 4)
        assert (logits != MASK).tolist() == [[column // 2 == label for column in range(4)]] * 8
        torch.testing.assert_close(model(X[:1], [label]), logits[:1])
    mixed = model(X, [0, 1] * 4)
    torch.testing.assert_close(mixed[::2], alone[0][::2])
    torch.testing.assert_close(mixed[1::2], alone[1][1::2])
    names = list(model.state_dict())
    with pytest.raises(ValueError, match=r"^task_labels 2\b"):
        model(X, torch.tensor([0, 2] * 4))
    assert list(model.state_dict()) == names


def test_columns_remember_their_tasks(progressive: PNN) -> None:
    """Row 38 in the loop: five tasks one after the other pass 0.7, two classes each; what was learned first is still
    known as well as on the day, to the last bit, and evaluating what is to come adds no column."""
    model, benchmark = progressive, toy()
    trainer = Trainer(Finetune(model), partial(torch.optim.SGD, lr=0.05), epochs=10, batch_size=20, device="cpu")
    counts = []
    for experience in benchmark.train:
        trainer.train(experience, benchmark.test)
        trainer.eval(benchmark.test)
        counts.append(sum(p.numel() for p in model.parameters()))
    R = trainer.matrix.plain
    assert R[5].mean() > 0.7
    assert all(R[after, j] == R[j + 1, j] for j in range(5) for after in range(j + 1, 6))
    # 70 and 110 parameters of each column's layers and 22 of its head; what links it to the others comes on top
    assert counts[0] == 202
    assert all(more - less > 202 for less, more in pairwise(counts))
