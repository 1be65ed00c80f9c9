"""What training over a stream keeps to: rows 44 to 50 of the list in ../model/test_behaviour.py.

Rows that other tests keep already:
Row 44, of every strategy, buffer and optimizer: test_run.py::test_resumed_is_uninterrupted and ../test_contract.py.
Row 49: ../buffer/test_herding.py::test_three_picks_by_hand and ::test_each_pick_is_the_best_of_what_is_left, on
features of length one as in the paper, where 4 and 5 are the same direction. No buffer here takes the closest first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from clx.benchmark.split import Split
from clx.buffer.base import Buffer
from clx.buffer.class_balanced import ClassBalanced
from clx.buffer.equal_random import EqualRandom
from clx.buffer.herding import Herding
from clx.buffer.random import Random
from clx.buffer.reservoir import Reservoir
from clx.buffer.ring import Ring
from clx.data.synthetic import Synthetic
from clx.logger.base import Evaluated, Event
from clx.loop.checkpoints import resume, state
from clx.loop.trainer import Trainer
from clx.model.dynamic import as_multitask
from clx.model.head.incremental import IncrementalClassifier
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.simple_mlp import SimpleMLP
from clx.regularizer.quadratic import grown
from clx.store import checkpoint
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune
from clx.types import Batch, Objective

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
BUFFERS: dict[str, Callable[[int], Buffer]] = {
    "reservoir": lambda capacity: Reservoir(capacity, 0, offer="first_epoch"),
    "class_balanced": lambda capacity: ClassBalanced(capacity, 0, offer="first_epoch"),
    "ring": lambda capacity: Ring(capacity, 0, offer="experience"),
    "random": lambda capacity: Random(capacity, 0),
    "equal_random": lambda capacity: EqualRandom(capacity, 0, per_class=None),
    "herding": lambda capacity: Herding(capacity, 0, per_class=None),
}


def toy(**keys: Any) -> Split:
    """10 classes of 6 features over 5 experiences, 60 training and 40 test samples a class."""
    data = Synthetic([1, 2, 3], num_classes=10, train_per_class=60, test_per_class=40, noise=32.0, seed=0)
    return Split(**{"data": data, "num_experiences": 5} | keys)


def net(head: str) -> Any:
    torch.manual_seed(0)
    model = SimpleMLP(num_classes=2, input_size=6, hidden_size=10, drop_rate=0.0)
    if head == "as_multitask":
        return as_multitask(model, "classifier")
    model.classifier = {"incremental": IncrementalClassifier, "multi_head": MultiHeadClassifier}[head](10)
    return model


@pytest.mark.parametrize("head", ["incremental", "multi_head", "as_multitask"])
def test_a_checkpoint_after_the_first_experience_goes_on(head: str, tmp_path: Path) -> None:
    """Row 44: the momentum comes back bit for bit, and the second experience ends in the same weights."""
    benchmark = toy(scenario="task_incremental")
    first, second = (Trainer(Finetune(net(head)), SGD, device="cpu", optimizer_state="keep") for _ in range(2))
    first.train(benchmark.train[:1], benchmark.test)
    checkpoint.save(tmp_path, state(first))
    resume(benchmark, second, checkpoint.load(tmp_path))
    for name, kept in first.memory.phases["train"].items():
        assert kept["momentum_buffer"].any()
        assert torch.equal(second.memory.phases["train"][name]["momentum_buffer"], kept["momentum_buffer"])
    for trainer in (first, second):
        torch.manual_seed(1)  # of the units to come
        trainer.train(benchmark.train[1], benchmark.test)
    wanted = first.strategy.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in second.strategy.state_dict().items())
    assert second.matrix.plain[2].tolist()[:2] == first.matrix.plain[2].tolist()[:2]
    assert second.known_tasks == {0, 1}


@pytest.mark.parametrize(
    ("eval_every", "eval_steps", "expected"), [(-1, None, 0), (0, None, 2), (1, None, 4), (0, 100, 4)]
)
def test_how_often_it_is_evaluated(eval_every: int, eval_steps: int | None, expected: int) -> None:
    """Row 45: one experience of 120 samples, one by one, 2 epochs: 240 steps. Before and after it; and with 1 after
    both epochs, with 100 after steps 100 and 200. There the counts are 0, 2, 3 and 5: the last epoch is not evaluated a
    second time when the experience ends, and steps count from the first."""
    benchmark, events = toy(), list[Event]()
    strategy = Finetune(net("incremental"))
    trainer = Trainer(strategy, epochs=2, batch_size=1, eval_every=eval_every, eval_steps=eval_steps, device="cpu")
    trainer.emit = events.append
    trainer.train(benchmark.train[:1], benchmark.test)
    assert trainer.total_step == 240
    assert sum(isinstance(event, Evaluated) for event in events) == expected


def test_the_step_that_stops_training_is_the_last() -> None:
    """Row 46: stopped in the step with index 10, of 30 in the experience and 150 in the stream, after 11 steps."""

    class Stopping(Finetune):
        def after_step(self, batch: Batch, objective: Objective) -> None:
            if batch.clock.step == 10:
                trainer.stop_training()

    trainer = Trainer(Stopping(net("incremental")), batch_size=4, device="cpu")
    trainer.train(toy().train)
    assert (trainer.total_step, trainer.finished) == (11, 1)


@pytest.mark.parametrize("capacity", [25, 100])
@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_fills_up_and_stays_where_it_is(name: str, capacity: int) -> None:
    """Row 47, 48: 20 new samples in each of five experiences: min(capacity, seen) are stored, 100 in the end where
    there is room for 100. The tensors are those of the first experience, whatever came since: nothing piles up."""
    buffer = BUFFERS[name](capacity)
    trainer = Trainer(ER(net("incremental"), buffer, replay_size=8), epochs=2, batch_size=8, device="cpu")
    places = None
    for number, experience in enumerate(toy(samples_per_class=10).train):
        trainer.train(experience)
        assert len(buffer) == len(buffer.samples()) == min(capacity, 20 * (number + 1))
        assert all(len(values) == capacity for values in buffer.rows.values())
        now = {key: values.data_ptr() for key, values in buffer.rows.items()}
        assert places in (None, now)
        places = now


def test_importance_grows_with_its_parameter() -> None:
    """Row 50: from (2, 3) to (2, 5) with zeros; what shrinks is refused. There growth in two dimensions is refused too;
    here it is allowed, and the old values keep their place."""
    old = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert grown(old, torch.ones(2, 5)).tolist() == [[1.0, 2.0, 3.0, 0.0, 0.0], [4.0, 5.0, 6.0, 0.0, 0.0]]
    assert grown(old, torch.ones(3, 5)).tolist()[1:] == [[4.0, 5.0, 6.0, 0.0, 0.0], [0.0] * 5]
    with pytest.raises(ValueError, match=r"shape \(2, 3\) became \(2, 2\); it may only grow"):
        grown(old, torch.ones(2, 2))
