"""The parent of all methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from clx.buffer.reservoir import Reservoir
from clx.model.dynamic import model_adaptation
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Samples

LN3 = math.log(3)


def test_observe_by_hand(make_linear: Any) -> None:
    """Logits = inputs. (ln 3, 0) -> p = (3/4, 1/4), class 0: -ln 3/4 = 0.287682; (0, 0), class 1: ln 2 = 0.693147;
    the mean is 0.490415."""
    x = torch.tensor([[LN3, 0.0], [0.0, 0.0]])
    strategy = Finetune(make_linear([[1.0, 0.0], [0.0, 1.0]]))
    objective = strategy.observe(Batch(x, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64)))
    assert objective.terms.keys() == {"ce"}
    assert objective.terms["ce"].item() == pytest.approx(0.490415, abs=1e-6)
    assert torch.equal(objective.logits, x)
    assert torch.equal(strategy.inference(x), x)


@pytest.fixture
def strategy(make_model: Any) -> Finetune:
    """Half of its features are dropped in training; it trains on inputs + 1 and answers for inputs / 10."""
    strategy = Finetune(make_model(drop_rate=0.5))
    transform = SimpleNamespace(train=lambda raw: raw.float() + 1, eval=lambda raw: raw.float() / 10)
    strategy.attach(transform, torch.device("cpu"), eval_batch_size=2)
    return strategy


@pytest.mark.parametrize("training", [True, False])
def test_embed_is_in_eval_mode_and_restores_the_mode(strategy: Finetune, training: bool) -> None:
    """Batches of 2, 2 and 1, without gradients; 2 x raw / 10."""
    seen = []

    def function(x: Tensor) -> Tensor:
        seen.append((strategy.training, strategy.model.body[2].training, torch.is_grad_enabled(), len(x)))
        return x * 2

    strategy.train(training)
    samples = Samples(torch.arange(5).view(5, 1), *torch.zeros(2, 5, dtype=torch.int64))
    torch.testing.assert_close(strategy.embed(samples, function).flatten(), torch.arange(5) / 5)
    assert seen == [(False, False, False, size) for size in (2, 2, 1)]
    assert (strategy.training, strategy.model.body[2].training) == (training, training)


def test_embed_gives_features(strategy: Finetune) -> None:
    """Of the eval transform, undropped, and no random number is drawn for it."""
    raw = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    samples = Samples(raw, *torch.zeros(2, 5, dtype=torch.int64))
    random = torch.get_rng_state()
    features = strategy.train().embed(samples)
    assert torch.equal(torch.get_rng_state(), random)
    assert not features.requires_grad
    torch.testing.assert_close(features, strategy.model.eval().features(raw / 10))


def test_adaptation_grows_the_model(strategy: Finetune) -> None:
    strategy.adaptation(Experience(index=0, classes=(0, 1, 2, 3)))
    assert strategy.inference(torch.zeros(1, 16)).shape == (1, 4)


def test_one_phase_over_the_experience(strategy: Finetune, make_experience: Any) -> None:
    """Everything else is the run's own, and regularizers take part."""
    experience = make_experience(0, {0: 2})
    (phase,) = strategy.phases(experience)
    assert (phase.name, phase.data) == ("train", experience.train)
    assert (phase.epochs, phase.parameters, phase.observe, phase.optimizer, phase.regularize) == (None,) * 5


def test_frozen_parameters_are_not_handed_to_the_optimizer(strategy: Finetune) -> None:
    strategy.model.body.requires_grad_(False)
    (group,) = strategy.get_parameters(Experience(index=0, classes=(0,)))
    expected = list(strategy.model.classifier.parameters())
    assert all(a is b for a, b in zip(group["params"], expected, strict=True))


@pytest.mark.parametrize(
    ("head", "keys", "refused"),
    [
        ("multi_head", {"scenario": "class_incremental"}, True),
        ("multi_head", {"scenario": "domain_incremental"}, True),
        ("multi_head", {"scenario": "task_incremental", "task_labels": False}, True),
        ("multi_head", {"scenario": "task_incremental"}, False),
        ("multi_head", {"scenario": "class_incremental", "task_labels": True}, False),
        ("incremental", {"scenario": "class_incremental"}, False),
        ("incremental", {"scenario": "task_incremental"}, False),
        ("incremental", {"scenario": "domain_incremental"}, False),
    ],
)
def test_a_head_for_each_task_needs_task_labels(
    head: str, keys: dict[str, Any], refused: bool, make_model: Any, make_benchmark: Any
) -> None:
    reason = Finetune(make_model(head)).conflict(make_benchmark(**keys))
    assert (reason is not None) == refused
    if refused:
        assert reason.startswith("model/head: this head needs task labels")


def test_a_scenario_that_a_method_is_not_for(make_model: Any, make_benchmark: Any) -> None:
    class Choosy(Finetune):
        scenarios = frozenset({"task_incremental"})

    strategy = Choosy(make_model())
    assert strategy.conflict(make_benchmark(scenario="task_incremental")) is None
    reason = strategy.conflict(make_benchmark(scenario="class_incremental"))
    assert reason is not None
    assert reason.startswith("benchmark.scenario=class_incremental ")
    assert reason.endswith("use task_incremental")


def test_a_missing_buffer(make_model: Any, make_benchmark: Any) -> None:
    class Replaying(Finetune):
        needs_buffer = "ring"

    reason = Replaying(make_model()).conflict(make_benchmark())
    assert reason is not None
    assert reason.startswith("buffer=none: ")
    assert reason.endswith("set buffer=ring")
    assert Replaying(make_model(), Reservoir(0, 0, offer="first_epoch")).conflict(make_benchmark()) is None
    assert Finetune(make_model()).conflict(make_benchmark()) is None


def test_task_labels_reach_the_model(make_model: Callable[..., Any]) -> None:
    """Logits of a sample of task 1 lie in its own columns 2 and 3, in training and in inference."""
    strategy = Finetune(make_model("multi_head"))
    for task, classes in enumerate([(0, 1), (2, 3)]):
        model_adaptation(strategy.model, Experience(index=task, classes=classes, classes_by_task={task: classes}))
    x, t = torch.ones(2, 16), torch.tensor([1, 0])
    for logits in (strategy.observe(Batch(x, torch.tensor([2, 0]), t)).logits, strategy.inference(x, t)):
        assert logits is not None
        assert (logits > -1000).tolist() == [[False, False, True, True], [True, True, False, False]]


def test_forward_is_the_model(make_model: Any) -> None:
    strategy = Finetune(make_model())
    strategy.adaptation(Experience(index=0, classes=(0, 1, 2)))
    x = torch.randn(3, 1, 4, 4)
    assert torch.equal(strategy.eval()(x), strategy.model(x))
