"""A single-head network turned into one with a head for each task."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from clx.model.dynamic import MultiTaskModule, as_multitask
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.simple_cnn import SimpleCNN
from clx.model.simple_mlp import SimpleMLP
from clx.types import Experience

X = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NETS = {"mlp": (lambda: SimpleMLP(input_size=3 * 32 * 32), 1_578_506), "cnn": (SimpleCNN, 70_378)}


def experience(task: int, *classes: int) -> Experience:
    return Experience(index=task, classes=classes, classes_by_task={task: classes})


@pytest.mark.parametrize(("make", "count"), NETS.values(), ids=NETS)
def test_the_old_classifier_is_the_head_of_task_0(make: type, count: int) -> None:
    """Nothing is added and nothing changes: the same numbers come out, bit for bit, for every form of the label."""
    torch.manual_seed(0)
    model = make().eval()
    before, logits = copy.deepcopy(model.classifier), model(X)
    wrapped = as_multitask(model, "classifier")
    assert isinstance(wrapped, MultiTaskModule)
    assert isinstance(wrapped.classifier, MultiHeadClassifier)
    assert sum(p.numel() for p in wrapped.parameters()) == count
    linear = before[-1] if isinstance(before, nn.Sequential) else before
    assert torch.equal(wrapped.classifier.classifiers["0"].weight, linear.weight)
    assert torch.equal(wrapped.classifier.classifiers["0"].bias, linear.bias)
    for labels in (0, [0] * 10, torch.zeros(10, dtype=torch.int64)):
        assert torch.equal(wrapped(X, labels), logits)


def test_heads_of_later_tasks_start_as_wide_as_the_old_classifier() -> None:
    wrapped = as_multitask(SimpleCNN(num_classes=3), "classifier")
    for task in range(2):
        wrapped.recursive_adaptation(experience(task, 2 * task, 2 * task + 1))
    assert {name: head.out_features for name, head in wrapped.classifier.classifiers.items()} == {"0": 3, "1": 3}
    logits = wrapped(X, [0, 1] * 5)
    assert logits.shape == (10, 4)
    assert bool((logits[::2, 2:] == -1000).all())
    assert bool((logits[1::2, :2] == -1000).all())
    assert set(wrapped(X, None)) == {0, 1}


def test_a_mixed_batch_goes_through_the_backbone_once() -> None:
    calls: list[int] = []
    model = SimpleCNN()
    model.body.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    wrapped = as_multitask(model, "classifier").eval()
    for task in range(3):
        wrapped.recursive_adaptation(experience(task, 2 * task, 2 * task + 1))
    mixed = wrapped(X, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]))
    assert calls == [10]
    for task in range(3):
        alone = wrapped(X, task)
        torch.testing.assert_close(mixed[task::3], alone[task::3])
    calls.clear()
    wrapped(X, None)
    assert calls == [10]


def test_attributes_are_those_of_the_wrapped_model() -> None:
    model = SimpleMLP()
    wrapped = as_multitask(model, "classifier")
    wrapped.temperature = 1
    assert model.temperature == 1
    wrapped.temperature += 1
    assert (model.temperature, wrapped.temperature) == (2, 2)
    assert wrapped.body is model.body
    wrapped.register_buffer("count", torch.zeros(1))
    wrapped.count = torch.ones(1)
    assert wrapped.count.item() == 1
    assert not hasattr(model, "count")
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        wrapped.nothing_of_that_name  # noqa: B018 - reading it is the test


def test_modes_devices_and_copies_stay_multi_task() -> None:
    wrapped = as_multitask(SimpleMLP(), "classifier")
    for same in (wrapped.eval(), wrapped.to("cpu"), wrapped.train(), copy.deepcopy(wrapped)):
        assert isinstance(same, MultiTaskModule)
    wrapped.eval()
    assert not any(module.training for module in wrapped.modules())


def test_any_torch_module_and_dtype() -> None:
    net = nn.Module()
    net.body, net.fc = nn.Linear(4, 3), nn.Linear(3, 2)
    net.forward = lambda x: net.fc(net.body(x))  # type: ignore[method-assign]
    wrapped = as_multitask(net.double(), "fc")
    wrapped.recursive_adaptation(experience(5, 0, 1))
    assert wrapped(torch.zeros(2, 4, dtype=torch.float64), [5, 5]).dtype == torch.float64


def test_a_grown_one_loads_into_a_fresh_one() -> None:
    grown, fresh = as_multitask(SimpleMLP(), "classifier").eval(), as_multitask(SimpleMLP(), "classifier").eval()
    for task in range(3):
        grown.recursive_adaptation(experience(task, 2 * task, 2 * task + 1))
    fresh.load_state_dict(grown.state_dict())
    x = torch.randn(4, 784)
    assert torch.equal(fresh(x, [2, 0, 1, 2]), grown(x, [2, 0, 1, 2]))
    assert (fresh.known_tasks, fresh.num_columns) == ([0, 1, 2], 6)


def test_what_cannot_be_wrapped() -> None:
    with pytest.raises(ValueError, match=r"^model: .* already"):
        as_multitask(as_multitask(SimpleMLP(), "classifier"), "classifier")
    with pytest.raises(ValueError, match=r"^classifier_name 'fc': .* body, classifier"):
        as_multitask(SimpleMLP(), "fc")
    with pytest.raises(ValueError, match=r"^classifier_name '1': ReLU is no Linear"):
        as_multitask(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "1")
