"""Over a long stream, memory holds what the method itself keeps and nothing else.

Resident memory is too noisy to see one small object an experience; living objects are counted instead.
"""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from clx.build import Built, build
from clx.config import compose, plain
from clx.logger.base import Event, ExperienceDone
from clx.loop.run import run
from clx.store.run import RunStore
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Objective, Phase, Samples

PASSING = (Experience, Samples, Batch, Clock, Objective, Phase, torch.optim.Optimizer, torch.Generator)
HIDDEN = 4  # features of the tiny model
# Of each class: its row and bias, and their gradients, in float32, and a bool that says that it is active.
HEAD = 2 * 4 * (HIDDEN + 1) + 1


@dataclass(frozen=True)
class Alive:
    """What lives at one moment: objects by kind, bytes of tensors, bytes that Python itself holds."""

    passing: Counter[str]
    tensors: int
    tensor_bytes: int
    containers: int
    traced: int


def alive() -> Alive:
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0]
    objects = gc.get_objects()
    kinds = Counter(kind.__name__ for o in objects for kind in PASSING if issubclass(type(o), kind))
    tensors = [o for o in objects if type(o) in (torch.Tensor, torch.nn.Parameter) and o.layout is torch.strided]
    storages = {storage.data_ptr(): storage.nbytes() for storage in (t.untyped_storage() for t in tensors)}
    count = len(tensors)
    del objects, tensors
    # Anew: a look at a storage makes an object. Tuples come and go with the collector; they show in the traced bytes.
    containers = sum(type(o) is not tuple for o in gc.get_objects())
    return Alive(kinds, count, sum(storages.values()), containers, traced)


@pytest.fixture(autouse=True, scope="module")
def looked_before() -> None:
    """The first look fills caches of Python's own."""
    alive()


def check_flat(before: Alive, after: Alive, *, experiences: int, bytes_each: int, traced_each: int = 0) -> None:
    """Of what passes through nothing stays; tensors grow by no more than bytes_each, and Python's own memory by no
    more than traced_each (0 = not traced) bytes an experience. Half an object an experience is too much."""
    assert not after.passing - before.passing
    assert after.tensors <= before.tensors
    assert after.tensor_bytes - before.tensor_bytes <= experiences * bytes_each
    assert after.containers - before.containers < experiences / 2
    assert after.traced - before.traced <= experiences * traced_each


def tiny(count: int, *words: str) -> tuple[dict[str, Any], Built]:
    """A stream of so many experiences of one class with two 2x2 images each, composed as on the command line."""
    config = plain(
        compose(
            [
                "benchmark=synthetic",
                "benchmark.data.shape=[1,2,2]",
                f"benchmark.data.num_classes={count}",
                "benchmark.data.train_per_class=2",
                "benchmark.data.test_per_class=1",
                f"benchmark.num_experiences={count}",
                f"model.hidden_size={HIDDEN}",
                "trainer.epochs=1",
                "trainer.batch_size=2",
                "trainer.device=cpu",
                "logger=none",
                *words,
            ]
        )
    )
    return config, build(config)


def looking(stream: Iterable[Experience], at: tuple[int, ...], seen: list[Alive]) -> Iterator[Experience]:
    """The experiences; before some of them, a look at what lives."""
    for experience in stream:
        if experience.index in at:
            seen.append(alive())
        yield experience


def test_a_thousand_experiences_leave_only_rows_of_the_head() -> None:
    _, built = tiny(1000, "strategy=finetune")
    trainer, stream, seen = built.trainer, built.benchmark.train, list[Alive]()
    trainer.train(looking(stream[:500], (100, 499), seen))
    tracemalloc.start()
    try:
        trainer.train(looking(stream[500:], (510, 999), seen))
    finally:
        tracemalloc.stop()
    assert trainer.finished == 1000
    check_flat(seen[0], seen[1], experiences=399, bytes_each=HEAD)
    # Python keeps an int and its place in a set for each class met; a tuple of the classes seen would be 8 kB.
    check_flat(seen[2], seen[3], experiences=489, bytes_each=HEAD, traced_each=1000)
    assert seen[3].tensor_bytes - seen[0].tensor_bytes == 899 * HEAD  # the measure sees every row


def test_evaluating_a_thousand_test_sets_again_leaves_nothing() -> None:
    _, built = tiny(1000, "strategy=finetune")
    built.trainer.train(built.benchmark.train[:3])
    values = built.trainer.eval(built.benchmark.test)
    assert [name for name, value in values.items() if value is not None][:3] == [f"accuracy/{j}" for j in range(3)]
    assert len(values) == 1001
    before = alive()
    for _ in range(20):
        built.trainer.eval(built.benchmark.test)
    check_flat(before, alive(), experiences=20, bytes_each=0)


class Looking:
    """A logger that looks at what lives when some experiences are done."""

    def __init__(self, at: tuple[int, ...]) -> None:
        self.at, self.seen = at, []

    def on(self, event: Event) -> None:
        if isinstance(event, ExperienceDone) and event.experience in self.at:
            self.seen.append(alive())

    def close(self) -> None:
        pass


def looks(config: dict[str, Any], built: Built, folder: Path, at: tuple[int, ...]) -> list[Alive]:
    """A whole run with its folder, evaluations and checkpoints; what lived after the experiences `at`."""
    store, looker = RunStore(folder), Looking(at)
    store.begin(config, {})
    built.trainer.loggers = [store, looker]
    try:
        run(built.benchmark, built.trainer, store, title="tiny", config=config)
    finally:
        store.close()
    return looker.seen


# Copies of a class's row that a method keeps: the teacher, importances and anchors, momentum.
KEPT = {
    "strategy=finetune": HEAD,
    "strategy=er buffer.capacity=60": HEAD,
    "strategy=agem buffer.capacity=60": HEAD,
    "strategy=finetune regularizer=lwf": 2 * HEAD,
    "strategy=er buffer.capacity=60 regularizer=[ewc_online,si] optimizer.momentum=0.9 trainer.optimizer_state=keep": 8
    * HEAD,
}


@pytest.mark.parametrize("words", KEPT)
def test_a_run_leaves_what_the_method_keeps(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its matrix, metrics, checkpoints, and a buffer that 30 experiences fill."""
    monkeypatch.setattr(logging.getLogger("clx"), "propagate", False)  # pytest would keep every line
    before, after = looks(*tiny(60, *words.split(), "trainer.checkpoint_every=10"), tmp_path, (29, 58))
    check_flat(before, after, experiences=29, bytes_each=KEPT[words])


# --- would a leak be seen? ---------------------------------------------------------------------------------------


class Hoarder(Finetune):
    """Keeps one thing an experience; `what` picks it."""

    def __init__(self, inner: Finetune, what: Callable[[Any], Any]) -> None:
        super().__init__(inner.model)
        self.what, self.hoard = what, []

    def before_task(self, experience: Experience) -> None:
        self.hoard.append(self.what(experience))

    def observe(self, batch: Batch) -> Objective:
        if self.what(batch) is batch:
            self.hoard.append(batch)
        return super().observe(batch)


LEAKS: dict[str, Callable[[Any], Any]] = {
    "experience": lambda thing: thing if isinstance(thing, Experience) else None,
    "batch": lambda thing: thing if isinstance(thing, Batch) else None,
    "optimizer": lambda _: torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1),
    "tensor": lambda _: torch.zeros(1),
    "dictionary": lambda thing: {"classes": thing} if isinstance(thing, Experience) else None,
}


@pytest.mark.parametrize("leak", LEAKS)
def test_one_retained_object_an_experience_is_seen(leak: str) -> None:
    _, built = tiny(40, "strategy=finetune")
    trainer = built.trainer
    trainer.strategy = Hoarder(trainer.strategy, LEAKS[leak])
    seen: list[Alive] = []
    trainer.train(looking(built.benchmark.train, (10, 39), seen))
    with pytest.raises(AssertionError):
        check_flat(*seen, experiences=29, bytes_each=HEAD)


def test_a_retained_tuple_of_numbers_is_seen_in_the_traced_bytes() -> None:
    """The garbage collector does not know it."""
    _, built = tiny(300, "strategy=finetune")
    hoard: list[tuple[int, ...]] = []
    seen: list[Alive] = []
    tracemalloc.start()
    try:
        hoard.extend(experience.classes_seen for experience in looking(built.benchmark.train, (150, 299), seen))
    finally:
        tracemalloc.stop()
    assert seen[1].containers - seen[0].containers < 100
    # 8 bytes for each of 150 to 299 classes
    assert seen[1].traced - seen[0].traced > 149 * 8 * 150
    with pytest.raises(AssertionError):
        check_flat(*seen, experiences=149, bytes_each=HEAD, traced_each=1000)
