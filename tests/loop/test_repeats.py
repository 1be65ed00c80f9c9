"""Teachers are asked once for each sample where every epoch brings the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from clx.benchmark.split import Split
from clx.buffer.herding import Herding
from clx.loop.trainer import Trainer
from clx.model import frozen
from clx.model.simple_mlp import SimpleMLP
from clx.regularizer.lwf import LwF
from clx.strategy.finetune import Finetune
from clx.strategy.icarl import ICaRL

SAMPLES = 16  # of an experience


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples passed through a frozen copy of the MLP each time."""
    counts: list[int] = []
    plain = SimpleMLP.features

    def features(self: SimpleMLP, x: Tensor) -> Tensor:
        if not next(self.parameters()).requires_grad:
            counts.append(len(x))
        return plain(self, x)

    monkeypatch.setattr(SimpleMLP, "features", features)
    return counts


def lwf(model: SimpleMLP) -> dict[str, Any]:
    return {"strategy": Finetune(model), "regularizers": {"lwf": LwF(1.0, temperature=2.0)}}


def icarl(model: SimpleMLP) -> dict[str, Any]:
    return {"strategy": ICaRL(model, Herding(6, 0, per_class=None))}


def train(parts: dict[str, Any], stream: Split, epochs: int) -> Tensor:
    """All weights after two experiences in batches of 5."""
    trainer = Trainer(**parts, epochs=epochs, batch_size=5, device="cpu", eval_batch_size=6)
    trainer.train(stream.train[:2])
    return torch.cat([p.detach().flatten() for p in trainer.strategy.model.parameters()])


@pytest.mark.parametrize(("make", "stored"), [(lwf, 0), (icarl, 6)])
@pytest.mark.parametrize("scenario", ["class_incremental", "task_incremental"])
def test_once_for_each_sample_of_three_epochs(
    make: Callable[..., Any], stored: int, scenario: str, asked: list[int], make_benchmark: Any, make_model: Any
) -> None:
    """16 samples, and with iCaRL 6 exemplars beside them, in batches of eval_batch_size = 6."""
    train(make(make_model()), make_benchmark(scenario=scenario), 3)
    whole, rest = divmod(SAMPLES + stored, 6)
    assert asked == [6] * whole + [rest]


@pytest.mark.parametrize("make", [lwf, icarl])
def test_the_same_weights_as_when_it_is_asked_each_time(
    make: Callable[..., Any], asked: list[int], make_benchmark: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums in another order: tolerance 1e-6. KEPT = 0 keeps nothing, and then all epochs ask."""
    once = train(make(make_model()), make_benchmark(), 3)
    asked.clear()
    monkeypatch.setattr(frozen, "KEPT", 0)
    torch.testing.assert_close(once, train(make(make_model()), make_benchmark(), 3), rtol=1e-6, atol=1e-6)
    assert sum(asked) >= 3 * SAMPLES


def test_a_multi_head_teacher_answers_for_each_task(
    asked: list[int], make_benchmark: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = make_benchmark(scenario="task_incremental")
    once = train(lwf(make_model("multi_head")), stream, 2)
    assert sum(asked) == SAMPLES
    monkeypatch.setattr(frozen, "KEPT", 0)
    torch.testing.assert_close(once, train(lwf(make_model("multi_head")), stream, 2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("epochs", "augment"), [(1, []), (2, ["flip"])])
def test_asked_in_each_step_where_inputs_do_not_come_again(
    epochs: int, augment: list[str], asked: list[int], make_benchmark: Any, make_model: Any
) -> None:
    """Four batches in an epoch: 5, 5, 5 and 1."""
    train(lwf(make_model()), make_benchmark(augment=augment), epochs)
    assert asked == [5, 5, 5, 1] * epochs


def test_nothing_is_kept_when_the_phase_is_over(make_benchmark: Any, make_model: Any) -> None:
    parts = lwf(make_model())
    train(parts, make_benchmark(), 2)
    teacher = parts["regularizers"]["lwf"].teacher
    assert teacher.repeats.batch is None
    assert not teacher.repeats.kept
