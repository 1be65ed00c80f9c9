"""Runs that differ by their seeds, trained as one: what each would have been alone.

Tolerance: sums inside a matrix product come in another order, so weights agree to the rounding of float32, carried on
by a short training: 1e-4 of their size, 1e-5 near zero. Draws, orders of batches and buffers agree exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from clx.benchmark.split import Split
from clx.buffer.reservoir import Reservoir
from clx.logger.base import Event, StepDone
from clx.loop.course import Course, Fitting, ShareClock, alone
from clx.loop.stacked import Stack, Unbatchable
from clx.loop.together import refusal, together
from clx.loop.trainer import Trainer
from clx.model.head.incremental import IncrementalClassifier
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.mlp import MLP
from clx.model.simple_cnn import SimpleCNN
from clx.regularizer.ewc_online import EWCOnline
from clx.regularizer.lwf import LwF
from clx.runtime import seed as seeding
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune
from clx.types import Batch, Objective

SEEDS = (0, 3, 5)
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
NETWORK = partial(MLP, input_size=16, hidden_sizes=(8,))


class DarkReplay(ER):
    """Logits stored beside the samples, and held by a squared error: a hook and a buffer field of its own."""

    def observe(self, batch: Batch) -> Objective:
        assert self.buffer is not None
        objective = super().observe(batch)
        replay = self.buffer.sample(3)
        if len(replay):
            stored = replay.fields["logits"]
            known = ~stored.isnan()
            again = self.model(replay.x, replay.t)[:, : stored.shape[1]]
            zero = torch.zeros_like(again)
            objective.terms["mse"] = mse_loss(torch.where(known, again, zero), torch.where(known, stored, zero))
        return objective

    def after_step(self, batch: Batch, objective: Objective) -> None:
        assert self.buffer is not None
        assert objective.logits is not None
        self.buffer.add(batch, logits=objective.logits)


class NumpyNoise(Finetune):
    """Draws where no run has a generator of its own."""

    def observe(self, batch: Batch) -> Objective:
        return Objective({"ce": super().observe(batch).terms["ce"] * float(np.random.rand())})  # noqa: NPY002


def make(
    seed: int,
    strategy: Callable[..., Finetune] = Finetune,
    *,
    replay: bool = False,
    head: Callable[[int], nn.Module] = IncrementalClassifier,
    model: Callable[[], Any] = NETWORK,
    regularizers: Callable[[], dict[str, Any]] = dict,
    optimizer: Callable[..., Any] = SGD,
    **options: Any,
) -> Trainer:
    seeding.seed_everything(seed)
    network = model()
    network.classifier = head(network.feature_dim)
    buffer = {"buffer": Reservoir(10, seed, offer="first_epoch")} if replay else {}
    return Trainer(
        strategy(network, **buffer),
        optimizer,
        regularizers=regularizers(),
        device="cpu",
        seed=seed,
        **{"epochs": 2, "batch_size": 5} | options,
    )


er, dark = partial(ER, replay_size=4), partial(DarkReplay, replay_size=4)
ewc = partial(EWCOnline, 10.0, decay=0.9, labels="sampled", seed=0)
CASES: dict[str, dict[str, Any]] = {
    "finetune": {},
    "er": {"strategy": er, "replay": True},
    "dark_replay": {"strategy": dark, "replay": True},
    "lwf_and_ewc": {"regularizers": lambda: {"lwf": LwF(1.0, temperature=2.0), "ewc": ewc()}},
    "dropout": {
        "model": partial(MLP, input_size=16, hidden_sizes=(8, 6), drop_rate=0.3),
        "strategy": er,
        "replay": True,
    },
    "batch_norm": {"model": partial(MLP, input_size=16, hidden_sizes=(8,), batch_norm=True, drop_rate=0.3)},
    "cnn": {"model": partial(SimpleCNN, in_channels=1)},
    "adam_clipped": {"optimizer": partial(torch.optim.Adam, lr=0.01, weight_decay=0.1), "clip_norm": 0.5},
    "scheduled": {"scheduler": partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)},
    "kept_state": {"optimizer_state": "keep", "max_steps": 5},
}


def course(benchmark: Split, trainers: dict[int, Trainer], seed: int, options: dict[str, Any]) -> Course:
    """A stream from its start, built when it begins as a run is."""
    trainer = trainers[seed] = make(seed, **options)
    trainer.attach(benchmark.transform)
    trainer.grow(benchmark.train[0])
    trainer.evaluate(benchmark.test)
    for experience in benchmark.train:
        yield from trainer.course(experience, benchmark.test)
        trainer.evaluate(benchmark.test)


def both(benchmark: Split, options: dict[str, Any]) -> tuple[dict[int, Trainer], dict[int, Trainer]]:
    """(alone, together), by seed."""
    single: dict[int, Trainer] = {}
    several: dict[int, Trainer] = {}
    for seed in SEEDS:
        alone(course(benchmark, single, seed, options))
    together([course(benchmark, several, seed, options) for seed in SEEDS])
    return single, several


def check_same(single: Trainer, several: Trainer) -> None:
    for ours, theirs in (
        (several.strategy.state_dict(), single.strategy.state_dict()),
        (several.regularizers.state_dict(), single.regularizers.state_dict()),
    ):
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert single.matrix is not None
    assert several.matrix is not None
    # One sample of a test set of 8: an eighth.
    torch.testing.assert_close(
        torch.from_numpy(several.matrix.plain),
        torch.from_numpy(single.matrix.plain),
        rtol=0,
        atol=0.126,
        equal_nan=True,
    )
    assert (several.total_step, several.num_samples) == (single.total_step, single.num_samples)
    if single.strategy.buffer is not None:
        assert several.strategy.buffer is not None
        ours, theirs = several.strategy.buffer.state_dict(), single.strategy.buffer.state_dict()
        assert torch.equal(ours["draw"], theirs["draw"])
        assert torch.equal(ours["rows"]["raw"], theirs["rows"]["raw"])


@pytest.mark.parametrize("case", CASES)
def test_as_alone(case: str, make_benchmark: Any) -> None:
    size = {"image_size": 16} if case == "cnn" else {}
    single, several = both(make_benchmark(**size), CASES[case])
    for seed in SEEDS:
        check_same(single[seed], several[seed])
    weights = [several[seed].strategy.state_dict() for seed in SEEDS]
    first = next(name for name in weights[0] if name.endswith("weight"))
    assert not torch.allclose(weights[0][first], weights[1][first])  # each its own


def test_as_alone_with_random_images(make_benchmark: Any) -> None:
    single, several = both(make_benchmark(augment=["crop", "flip"]), CASES["dropout"])
    for seed in SEEDS:
        check_same(single[seed], several[seed])


def test_no_step_falls_back(make_benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing above was trained one run after the other."""

    def refuse(self: Fitting) -> int:
        assert isinstance(self.outcome, int), "fitted alone"
        return self.outcome

    monkeypatch.setattr(Fitting, "__call__", refuse)
    trainers: dict[int, Trainer] = {}
    together([course(make_benchmark(), trainers, seed, CASES["dark_replay"]) for seed in SEEDS])
    assert [trainers[seed].total_step for seed in SEEDS] == [3 * 2 * 4] * 3


class Watching:
    """Keeps what a run is told of its steps."""

    def __init__(self) -> None:
        self.steps: list[StepDone] = []

    def on(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.steps.append(event)

    def close(self) -> None:
        pass


def test_events_are_those_of_each_run(make_benchmark: Any) -> None:
    told: dict[bool, list[list[StepDone]]] = {}
    for at_once in (False, True):
        watching = [Watching() for _ in SEEDS]
        options = [{"loggers": [watch], "eval_every": 1, "strategy": er, "replay": True} for watch in watching]
        courses = [course(make_benchmark(), {}, seed, o) for seed, o in zip(SEEDS, options, strict=True)]
        if at_once:
            together(courses)
        else:
            for single in courses:
                alone(single)
        told[at_once] = [watch.steps for watch in watching]
    for ours, theirs in zip(told[True], told[False], strict=True):
        assert [(e.experience, e.epoch, e.step, e.steps, e.total_step) for e in ours] == [
            (i, epoch, 4 * (epoch + 1), 8, 8 * i + 4 * (epoch + 1)) for i in range(3) for epoch in range(2)
        ]
        for one, other in zip(ours, theirs, strict=True):
            assert one.terms == pytest.approx(other.terms, rel=1e-4)
            assert one.accuracy == other.accuracy


def first_course(benchmark: Split, seed: int, options: dict[str, Any]) -> Course:
    trainer = make(seed, **options)
    trainer.attach(benchmark.transform)
    return trainer.course(benchmark.train[0])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bfloat16": ({"precision": "bfloat16"}, "trainer.precision=bfloat16 rounds"),
    "skip": ({"on_nonfinite": "skip"}, "trainer.on_nonfinite=skip"),
    "lbfgs": ({"optimizer": torch.optim.LBFGS}, "the optimizer LBFGS may look at whole tensors"),
    "numpy": ({"strategy": NumpyNoise}, "the step draws from Python's or numpy's generator"),
    "heads": ({"head": MultiHeadClassifier}, "depends on the values of its inputs"),
    "alpha_dropout": (
        {"model": lambda: nn_model(nn.AlphaDropout(0.5))},
        "its forward pass draws at random",
    ),
}


def nn_model(layer: nn.Module) -> MLP:
    model = MLP(input_size=16, hidden_sizes=(8,))
    model.body.append(layer)
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(case: str, make_benchmark: Any) -> None:
    options, reason = REFUSED[case]
    scenario = "task_incremental" if case == "heads" else "class_incremental"
    found = refusal([first_course(make_benchmark(scenario=scenario), seed, options) for seed in SEEDS[:2]])
    assert found is not None
    assert reason in found


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"cnn"}))
def test_not_refused(case: str, make_benchmark: Any) -> None:
    assert refusal([first_course(make_benchmark(), seed, CASES[case]) for seed in SEEDS]) is None


def test_what_cannot_be_batched_is_trained_one_after_the_other(make_benchmark: Any) -> None:
    """Only a person's own objects get there: the command refuses before."""
    options = {"head": MultiHeadClassifier, "strategy": er, "replay": True}
    single, several = both(make_benchmark(scenario="task_incremental"), options)
    for seed in SEEDS:
        for name, value in single[seed].strategy.state_dict().items():
            if isinstance(value, Tensor):
                assert torch.equal(value, several[seed].strategy.state_dict()[name]), name


def test_a_run_that_fails_leaves_the_others(make_benchmark: Any) -> None:
    """An infinite weight in the second run: its loss is not finite, at the end of the first epoch it is told."""
    benchmark, single, several = make_benchmark(), {}, {}  # type: ignore[var-annotated]

    def broken(seed: int) -> Course:
        inner = course(benchmark, several, seed, {})
        fitting = next(inner)
        if seed == SEEDS[1]:
            with torch.no_grad():
                next(several[seed].strategy.parameters()).fill_(float("inf"))
        yield fitting
        yield from inner

    for seed in SEEDS:
        alone(course(benchmark, single, seed, {}))
    with pytest.raises(FloatingPointError, match="experience 0, phase train, epoch 0, step 0"):
        together([broken(seed) for seed in SEEDS])
    for seed in (SEEDS[0], SEEDS[2]):
        check_same(single[seed], several[seed])
    assert several[SEEDS[1]].finished == 0


def test_stacking_gives_the_memory_back() -> None:
    """Parts of [2, 3, 2] while stacked, their own memory with the values of then after it."""
    runs = [[nn.Linear(2, 3)], [nn.Linear(2, 3)]]
    memory = [layer.weight.data_ptr() for (layer,) in runs]
    stack = Stack(runs)
    weight = stack.of(runs[0][0].weight)
    assert weight.shape == (2, 3, 2)
    with torch.no_grad():
        weight.fill_(7.0)
    assert runs[1][0].weight.data_ptr() != memory[1]
    stack.close()
    assert [layer.weight.data_ptr() for (layer,) in runs] == memory
    assert all(layer.weight.eq(7.0).all() for (layer,) in runs)


def test_stacking_refuses_what_differs() -> None:
    with pytest.raises(Unbatchable, match="weight differs in shape"):
        Stack([[nn.Linear(2, 3)], [nn.Linear(2, 4)]])
    with pytest.raises(Unbatchable, match="networks differ"):
        Stack([[nn.Linear(2, 3)], [nn.Linear(2, 3, bias=False)]])
    hiding = nn.Linear(2, 3)
    hiding.extra = [torch.zeros(1)]  # type: ignore[assignment]
    with pytest.raises(Unbatchable, match=r"Linear\.extra is neither a parameter nor a registered buffer"):
        Stack([[hiding], [hiding]])


def test_share_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 100 s on: 10 s waiting, 8 s as one of four, 5 s alone: 2 + 5 s."""
    now = [100.0]
    monkeypatch.setattr("clx.loop.course.time.perf_counter", lambda: now[0])
    clock = ShareClock()
    for rate, seconds in ((0.0, 10.0), (0.25, 8.0), (1.0, 5.0)):
        clock.run_at(rate)
        now[0] += seconds
    assert clock() == 107.0
