"""The loop as an object."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clx.logger.base import Evaluated, Event, StepDone
from clx.loop.trainer import Trainer
from clx.metric.summary import METRICS
from clx.model.base import Model
from clx.regularizer.base import Regularizer
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Objective, Phase

# The tiny stream: 3 experiences of 2 classes, 16 training samples each. In batches of 4: 4 steps an epoch.


class Log:
    """A logger that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass

    def evaluated(self) -> list[Evaluated]:
        return [event for event in self.events if isinstance(event, Evaluated)]

    def steps(self) -> list[StepDone]:
        return [event for event in self.events if isinstance(event, StepDone)]


class Noting(Finetune):
    """Notes the clock and the samples of every step; `each`, if given, is called after it with the batch."""

    def __init__(self, model: Model, each: Callable[[Batch], None] | None = None) -> None:
        super().__init__(model)
        self.each = each
        self.clocks: list[Clock] = []
        self.order: dict[tuple[int, str, int], list[int]] = {}

    def after_step(self, batch: Batch, objective: Objective) -> None:
        clock = batch.clock
        self.clocks.append(clock)
        assert batch.index is not None
        self.order.setdefault((clock.experience, clock.phase, clock.epoch), []).extend(batch.index.tolist())
        if self.each is not None:
            self.each(batch)


def make_trainer(strategy: Finetune, **options: Any) -> Trainer:
    settings = {"optimizer": partial(torch.optim.SGD, lr=0.1), "batch_size": 4, "device": "cpu"}
    return Trainer(strategy, **settings | options)


def weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------ what comes back


def test_train_returns_the_metrics_and_fills_the_matrix(make_model: Any, make_benchmark: Any) -> None:
    """A set is measured from the moment that its classes have columns: from row 0 on for set 0, from row j + 1 on for
    set j. Forward transfer needs accuracies from before and is undefined."""
    benchmark, trainer = make_benchmark(), make_trainer(Finetune(make_model()), epochs=5)
    metrics = trainer.train(benchmark.train, benchmark.test)
    assert metrics.keys() == METRICS.keys()
    assert trainer.matrix is not None
    R = trainer.matrix.plain
    measured = [[not math.isnan(value) for value in row] for row in R]
    assert measured == [[True, False, False], [True, False, False], [True, True, False], [True, True, True]]
    assert metrics["average_accuracy"] == pytest.approx(sum(R[3]) / 3)
    assert metrics["learning_accuracy"] == pytest.approx((R[1, 0] + R[2, 1] + R[3, 2]) / 3)
    assert metrics["forward_transfer"] is None
    assert (trainer.finished, trainer.total_step, trainer.num_samples) == (3, 3 * 5 * 4, 3 * 5 * 16)


def test_eval_gives_accuracies(make_model: Any, make_benchmark: Any) -> None:
    """After two of three experiences, against the predictions of each image of the first two sets."""
    benchmark, trainer = make_benchmark(), make_trainer(Finetune(make_model()), epochs=5)
    trainer.train(benchmark.train[:2])
    found, strategy = trainer.eval(benchmark.test), trainer.strategy.eval()
    expected = [
        (strategy.inference(benchmark.transform.eval(s.raw), s.t).argmax(1) == s.y).double().mean().item()
        for s in benchmark.test[:2]
    ]
    assert found["accuracy/0"] == pytest.approx(expected[0])
    assert found["accuracy/1"] == pytest.approx(expected[1])
    assert found["accuracy/2"] is None
    assert found["average_accuracy"] == pytest.approx(sum(expected) / 2)
    named = trainer.eval({"test": benchmark.test, "again": benchmark.test[:1]})
    assert named["test/accuracy/1"] == found["accuracy/1"]
    assert named["again/accuracy/0"] == found["accuracy/0"]
    assert "again/accuracy/1" not in named


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
@pytest.mark.parametrize("trained", [0, 1])
def test_eval_of_what_was_never_trained(trained: int, head: str, make_model: Any, make_benchmark: Any) -> None:
    """All of it None, and no error, before the first experience and after."""
    benchmark = make_benchmark(scenario="task_incremental" if head == "multi_head" else "class_incremental")
    trainer = make_trainer(Finetune(make_model(head)))
    trainer.train(benchmark.train[:trained])
    expected = {"accuracy/0": None, "accuracy/1": None, "average_accuracy": None}
    assert trainer.eval(benchmark.test[1:]) == expected


@pytest.mark.parametrize("apart", ["one by one", "as lists", "as slices"])
def test_experiences_may_come_in_several_calls(apart: str, make_model: Any, make_benchmark: Any) -> None:
    whole, parts = (make_trainer(Finetune(make_model(drop_rate=0.5))) for _ in range(2))
    benchmark, test = make_benchmark(), make_benchmark().test
    stream = benchmark.train
    pieces = {"one by one": list(stream), "as lists": [[e] for e in stream], "as slices": [stream[:2], stream[2:]]}
    torch.manual_seed(1)
    expected = whole.train(stream, test)
    torch.manual_seed(1)
    for piece in pieces[apart]:
        metrics = parts.train(piece, test)
    assert metrics == expected
    assert same(weights(parts.strategy), weights(whole.strategy))


def test_a_stream_without_a_transform(make_model: Any, make_experience: Any) -> None:
    with pytest.raises(ValueError, match=r"^transform None"):
        make_trainer(Finetune(make_model())).train([make_experience(0, {0: 2})])


# ------------------------------------------------------------------------------------------------ evaluation


@pytest.mark.parametrize(
    ("eval_every", "eval_steps", "expected"),
    [
        (-1, None, []),
        # Before training, and after each experience.
        (0, None, [(0, None), (1, None), (2, None), (3, None)]),
        (3, None, [(0, None), (0, 2), (1, None), (1, 2), (2, None), (2, 2), (3, None)]),
        (2, None, [(0, None), (0, 1), (0, 3), (1, None), (1, 1), (1, 3), (2, None), (2, 1), (2, 3), (3, None)]),
        # 16 steps an experience: step 20 is in the second, step 40 in the third.
        (0, 20, [(0, None), (1, None), (1, -1), (2, None), (2, -1), (3, None)]),
    ],
)
def test_when_it_is_evaluated(
    eval_every: int, eval_steps: int | None, expected: list[Any], make_model: Any, make_benchmark: Any
) -> None:
    """(experiences behind, epoch if in the middle of one) of every evaluation; 4 epochs."""
    benchmark, log = make_benchmark(), Log()
    trainer = make_trainer(
        Finetune(make_model()), epochs=4, eval_every=eval_every, eval_steps=eval_steps, loggers=[log]
    )
    metrics = trainer.train(benchmark.train, benchmark.test)
    assert [(event.experiences, event.epoch) for event in log.evaluated()] == expected
    assert (trainer.matrix is None) == (metrics == {}) == (eval_every == -1)


def test_events_say_what_the_matrix_says(make_model: Any, make_benchmark: Any) -> None:
    benchmark, log = make_benchmark(), Log()
    trainer = make_trainer(Finetune(make_model()), loggers=[log])
    trainer.train(benchmark.train, benchmark.test)
    assert trainer.matrix is not None
    for event, plain, aware in zip(log.evaluated(), trainer.matrix.plain, trainer.matrix.aware, strict=True):
        assert event.accuracies == [None if math.isnan(value) else value for value in plain]
        assert event.aware == [None if math.isnan(value) else value for value in aware]
        assert event.total_step == event.experiences * 4


def test_evaluation_does_not_touch_training(make_model: Any, make_benchmark: Any) -> None:
    """Dropout and order go on as if nobody had looked."""
    found = []
    for options in ({"eval_every": -1}, {"eval_every": 1, "eval_steps": 3}):
        benchmark, trainer = make_benchmark(), make_trainer(Finetune(make_model(drop_rate=0.5)), epochs=2, **options)
        trainer.train(benchmark.train, benchmark.test)
        found.append(weights(trainer.strategy))
    assert same(*found)


# ------------------------------------------------------------------------------------------------ steps


def test_the_order_depends_on_seed_experience_phase_and_epoch_alone(make_model: Any, make_benchmark: Any) -> None:
    """Not on the batch size, the number of epochs, the model, other random numbers or who looks on."""

    def order(**options: Any) -> dict[tuple[int, str, int], list[int]]:
        strategy = Noting(make_model(drop_rate=options.pop("drop_rate", 0.0)), lambda _: torch.rand(1))
        benchmark = make_benchmark()
        make_trainer(strategy, **options).train(benchmark.train, benchmark.test)
        return strategy.order

    base = order(epochs=2, seed=5)
    assert base.keys() == {(experience, "train", epoch) for experience in range(3) for epoch in range(2)}
    assert all(sorted(indices) == list(range(16)) for indices in base.values())
    assert len({tuple(indices) for indices in base.values()}) == 6
    other = order(epochs=3, seed=5, batch_size=7, drop_rate=0.5, eval_every=1)
    assert {key: other[key] for key in base} == base
    assert all(indices != base[key] for key, indices in order(epochs=2, seed=6).items())


def test_the_clock(make_model: Any, make_benchmark: Any) -> None:
    """Batches of 7, 7 and 2; steps count on over the epochs."""
    strategy = Noting(make_model())
    make_trainer(strategy, epochs=2, batch_size=7).train(make_benchmark().train[:1])
    assert strategy.clocks == [Clock(0, "train", step // 3, step, 6) for step in range(6)]


@pytest.mark.parametrize(("max_steps", "per_experience"), [(1, 1), (6, 6), (8, 8), (100, 8)])
def test_max_steps_of_each_phase(max_steps: int, per_experience: int, make_model: Any, make_benchmark: Any) -> None:
    """2 epochs of 4 steps."""
    strategy = Noting(make_model())
    trainer = make_trainer(strategy, epochs=2, max_steps=max_steps)
    trainer.train(make_benchmark().train)
    assert trainer.total_step == len(strategy.clocks) == 3 * per_experience
    assert [clock.step for clock in strategy.clocks] == 3 * list(range(per_experience))
    assert {clock.steps for clock in strategy.clocks} == {per_experience}


@pytest.mark.parametrize("clip_norm", [0.01, 1000.0, None])
def test_gradients_are_clipped(clip_norm: float | None, make_model: Any, make_benchmark: Any) -> None:
    """With lr 1 a step is as long as the gradient, or as clip_norm where that is less."""
    lengths, places = [], []

    class Measuring(Finetune):
        def after_backward(self, batch: Batch) -> None:
            lengths.append(torch.cat([p.grad.flatten() for p in self.model.parameters()]).norm().item())
            places.append(torch.cat([p.detach().flatten() for p in self.model.parameters()]))

        def after_step(self, batch: Batch, objective: Objective) -> None:
            places.append(torch.cat([p.detach().flatten() for p in self.model.parameters()]))

    sgd = partial(torch.optim.SGD, lr=1.0)
    make_trainer(Measuring(make_model()), optimizer=sgd, clip_norm=clip_norm).train(make_benchmark().train[:1])
    for length, before, after in zip(lengths, places[::2], places[1::2], strict=True):
        assert 0.01 < length < 1000
        expected = length if clip_norm is None else min(length, clip_norm)
        assert (after - before).norm().item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite(value: float, make_model: Any, make_benchmark: Any) -> None:
    """In the last step of the second experience's first epoch. What is said: where, and the terms."""

    class Breaking(Finetune):
        def observe(self, batch: Batch) -> Objective:
            objective = super().observe(batch)
            broken = batch.clock.experience == 1 and batch.clock.step == 3
            return Objective(objective.terms | {"extra": torch.tensor(value if broken else 0.0)}, objective.logits)

    trainer = make_trainer(Breaking(make_model()), epochs=2)
    where = rf"in experience 1, phase train, epoch 0, step 3: ce = [0-9.]+, extra = {value};"
    with pytest.raises(FloatingPointError, match=where):
        trainer.train(make_benchmark().train)
    assert trainer.finished == 1


def test_weights_that_are_not_finite_though_the_loss_was(make_model: Any, make_benchmark: Any) -> None:
    """The last step of all breaks a weight: no loss tells."""

    class Breaking(Finetune):
        @torch.no_grad()
        def after_step(self, batch: Batch, objective: Objective) -> None:
            if (batch.clock.experience, batch.clock.step) == (2, batch.clock.steps - 1):
                next(self.parameters())[0] = float("inf")

    trainer = make_trainer(Breaking(make_model()))
    with pytest.raises(FloatingPointError, match=r"^model\..* is not finite after experience 2, phase train; lower"):
        trainer.train(make_benchmark().train)


class Poisoned(Finetune):
    """A loss, or a gradient, that is not a number in some steps of the second experience."""

    def __init__(self, model: Any, *, steps: Sequence[int], gradient: bool) -> None:
        super().__init__(model)
        self.steps, self.gradient, self.kept = steps, gradient, []

    def observe(self, batch: Batch) -> Objective:
        objective = super().observe(batch)
        if batch.clock.experience == 1 and batch.clock.step in self.steps:
            weight = next(self.model.parameters())
            # The slope of a square root at 0 is infinite, and 0 * inf is not a number, though the root itself is 0.
            zero = (weight * 0).sum()
            return Objective({"bad": zero.sqrt() if self.gradient else zero * float("nan")}, objective.logits)
        return objective

    def after_step(self, batch: Batch, objective: Objective) -> None:
        self.kept.append((batch.clock.experience, batch.clock.step))


@pytest.mark.parametrize("gradient", [False, True])
def test_steps_that_are_not_finite_can_be_skipped(gradient: bool, make_model: Any, make_benchmark: Any) -> None:
    """Steps 1 and 2 of the second experience's 4: counted, nothing moves in them, nobody watches them."""
    strategy = Poisoned(make_model(), steps=(1, 2), gradient=gradient)
    trainer = make_trainer(strategy, on_nonfinite="skip")
    trainer.train(make_benchmark().train)
    assert (trainer.total_step, trainer.skipped_steps) == (12, 2)
    assert [step for experience, step in strategy.kept if experience == 1] == [0, 3]
    assert all(bool(p.isfinite().all()) for p in strategy.parameters())
    with pytest.raises(FloatingPointError, match="is not finite" if gradient else r"step 1: bad = nan;"):
        make_trainer(Poisoned(make_model(), steps=(1, 2), gradient=gradient)).train(make_benchmark().train)


def test_skipping_does_not_go_on_for_ever(make_model: Any, make_benchmark: Any) -> None:
    strategy = Poisoned(make_model(), steps=range(1000), gradient=False)
    with pytest.raises(FloatingPointError, match=r"^50 steps in a row were skipped; not finite in experience 1, .*bad"):
        make_trainer(strategy, on_nonfinite="skip", epochs=20).train(make_benchmark().train)


def test_skipping_changes_nothing_where_all_is_finite(make_model: Any, make_benchmark: Any) -> None:
    ends = []
    for mode in ("stop", "skip"):
        strategy = Finetune(make_model())
        make_trainer(strategy, on_nonfinite=mode).train(make_benchmark().train)
        ends.append(weights(strategy))
    assert same(*ends)


def test_events_tell_means_of_the_terms(make_model: Any, make_benchmark: Any) -> None:
    """At the end of each epoch: terms that are 0 1 2 3 and 4 5 6 7 in its steps, and the regularizer's 2 times its
    weight 3, under its name."""

    class Counting(Finetune):
        def observe(self, batch: Batch) -> Objective:
            objective = super().observe(batch)
            return Objective(objective.terms | {"count": torch.tensor(float(batch.clock.step))}, objective.logits)

    class Constant(Regularizer):
        def penalty(self, model: Model, batch: Batch, objective: Objective) -> Tensor:
            return torch.tensor(2.0)

    log = Log()
    regularizers = {"two": Constant(3.0), "none": Constant(0.0)}
    trainer = make_trainer(Counting(make_model()), epochs=2, loggers=[log], regularizers=regularizers)
    trainer.train(make_benchmark().train[:1])
    events = log.steps()
    assert [(e.experience, e.phase, e.epoch, e.epochs, e.step, e.steps, e.total_step) for e in events] == [
        (0, "train", 0, 2, 4, 8, 4),
        (0, "train", 1, 2, 8, 8, 8),
    ]
    assert [event.terms["count"] for event in events] == [1.5, 5.5]
    assert [event.terms["two"] for event in events] == [6.0, 6.0]
    assert all(event.terms.keys() == {"ce", "count", "two"} for event in events)


def test_bfloat16_is_for_the_forward_pass(make_model: Any, make_benchmark: Any) -> None:
    dtypes = set()

    class Looking(Finetune):
        def after_step(self, batch: Batch, objective: Objective) -> None:
            assert objective.logits is not None
            dtypes.add((objective.logits.dtype, *(p.dtype for p in self.model.parameters())))

    make_trainer(Looking(make_model()), precision="bfloat16").train(make_benchmark().train)
    assert dtypes == {(torch.bfloat16, *[torch.float32] * 4)}


# ------------------------------------------------------------------------------------------------ stopping


@pytest.mark.parametrize(("stop_at", "expected"), [((0, 2), 3), ((0, 7), 8), ((1, 0), 9)])
def test_stop_after_the_current_step(
    stop_at: tuple[int, int], expected: int, make_model: Any, make_benchmark: Any
) -> None:
    """At step (experience, step) of 2 epochs of 4. The experience it was in is closed, no other is begun; the next
    call of train goes on."""
    benchmark = make_benchmark()

    def each(batch: Batch) -> None:
        if (batch.clock.experience, batch.clock.step) == stop_at:
            trainer.stop_training()

    strategy = Noting(make_model(), each)
    trainer = make_trainer(strategy, epochs=2)
    trainer.train(benchmark.train, benchmark.test)
    assert trainer.total_step == len(strategy.clocks) == expected
    assert trainer.finished == stop_at[0] + 1
    trainer.train(benchmark.train[trainer.finished :])
    assert trainer.finished == 3
    assert trainer.total_step == expected + 8 * (2 - stop_at[0])


class TwoPhases(Noting):
    """The second phase has its own everything: data, epochs, batch size, parameters, objective."""

    def __init__(self, model: Model, each: Callable[[Batch], None] | None = None, **second: Any) -> None:
        super().__init__(model, each)
        self.second = second
        self.between: list[int] = []

    def phases(self, experience: Experience) -> Iterator[Phase]:
        yield Phase(name="train", data=experience.data)
        self.between.append(len(self.clocks))
        self.first_weights = weights(self.model)
        yield Phase(name="head", data=experience.data[:6], **self.second)

    def scaled(self, batch: Batch) -> Objective:
        logits = self.model(batch.x, batch.t)
        return Objective({"scaled": 10 * cross_entropy(logits, batch.y)})


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"max_steps": 0}, {"eval_steps": 0}, {"precision": "bf16"}, {"device": "tpu"},
     {"optimizer_state": "kepe"}],
    ids=str,
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any], make_model: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Trainer(Finetune(make_model()), **wrong)


def test_stopping_skips_the_phases_to_come(make_model: Any, make_benchmark: Any) -> None:
    def each(batch: Batch) -> None:
        if batch.clock.step == 1:
            trainer.stop_training()

    strategy = TwoPhases(make_model(), each)
    trainer = make_trainer(strategy)
    trainer.train(make_benchmark().train)
    assert [(clock.phase, clock.step) for clock in strategy.clocks] == [("train", 0), ("train", 1)]


# ------------------------------------------------------------------------------------------------ phases


def test_a_phase_of_its_own(make_model: Any, make_benchmark: Any) -> None:
    """1 epoch of 4 steps over everything, then 3 epochs of 2 steps over 6 samples, which move the head alone. The code
    in between runs when the first is done."""
    strategy, log = TwoPhases(make_model()), Log()
    strategy.second = {"epochs": 3, "batch_size": 5, "observe": strategy.scaled}
    strategy.second["parameters"] = [{"params": strategy.model.classifier.parameters()}]
    trainer = make_trainer(strategy, loggers=[log])
    trainer.train(make_benchmark().train[:1])
    assert strategy.between == [4]
    expected = [Clock(0, "train", 0, step, 4) for step in range(4)]
    expected += [Clock(0, "head", step // 2, step, 6) for step in range(6)]
    assert strategy.clocks == expected
    assert all(sorted(indices) == list(range(6)) for key, indices in strategy.order.items() if key[1] == "head")
    moved = {name for name, value in weights(strategy.model).items() if not value.equal(strategy.first_weights[name])}
    assert moved == {"classifier.classifier.weight", "classifier.classifier.bias"}
    assert [(event.phase, *event.terms) for event in log.steps()] == [("train", "ce")] + [("head", "scaled")] * 3
    assert [event.accuracy is None for event in log.steps()] == [False, True, True, True]
    assert trainer.num_samples == 16 + 3 * 6


@pytest.mark.parametrize(("own", "regularize", "expected"), [(False, None, 2), (True, None, 1), (True, True, 2)])
def test_regularizers_join_the_strategys_own_objective(
    own: bool, regularize: bool | None, expected: int, make_model: Any, make_benchmark: Any
) -> None:
    """Those of a phase with its own objective have none unless it asks."""

    class Constant(Regularizer):
        def penalty(self, model: Model, batch: Batch, objective: Objective) -> Tensor:
            return torch.tensor(1.0)

    strategy, log = TwoPhases(make_model()), Log()
    strategy.second = {"observe": strategy.scaled if own else None, "regularize": regularize}
    make_trainer(strategy, loggers=[log], regularizers={"one": Constant(1.0)}).train(make_benchmark().train[:1])
    assert sum("one" in event.terms for event in log.steps()) == expected


def test_optimizer_transform_and_scheduler_of_a_phase(make_model: Any, make_benchmark: Any) -> None:
    """With lr 0 nothing moves; its inputs are all 7; its scheduler learns how long it is."""
    strategy, seen, asked = TwoPhases(make_model()), [], []

    def observe(batch: Batch) -> Objective:
        seen.append(batch.x)
        return strategy.scaled(batch)

    def scheduler(optimizer: torch.optim.Optimizer, epochs: int, steps: int) -> Any:
        asked.append((epochs, steps))
        return torch.optim.lr_scheduler.ConstantLR(optimizer)

    strategy.second = {
        "observe": observe,
        "transform": lambda raw: torch.full(raw.shape, 7.0),
        "optimizer": partial(torch.optim.SGD, lr=0.0),
        "scheduler": scheduler,
        "epochs": 2,
    }
    make_trainer(strategy).train(make_benchmark().train[:1])
    assert same(weights(strategy.model), strategy.first_weights)
    assert all(x.eq(7).all() for x in seen)
    assert asked == [(2, 4)]


def test_the_scheduler_steps_once_an_epoch(make_model: Any, make_benchmark: Any) -> None:
    """Cosine from 0.1 over the phase's 4 epochs, anew in each experience: 0.1 (1 + cos(pi e / 4)) / 2."""
    made: list[torch.optim.Optimizer] = []

    def sgd(groups: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(groups, lr=0.1))
        return made[-1]

    rates = []
    strategy = Noting(make_model(), lambda _: rates.append(made[-1].param_groups[0]["lr"]))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    make_trainer(strategy, optimizer=sgd, scheduler=cosine, epochs=4, batch_size=8).train(make_benchmark().train[:2])
    expected = [0.1 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4) for _ in range(2)]
    assert rates == pytest.approx(2 * expected)


def test_a_strategy_without_terms_trains_nothing(make_model: Any, make_benchmark: Any) -> None:
    """Not even by weight decay; its hooks run all the same."""

    class Closed(Noting):
        def observe(self, batch: Batch) -> Objective:
            return Objective({})

    strategy, log = Closed(make_model()), Log()
    benchmark, decay = make_benchmark(), partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5)
    trainer = make_trainer(strategy, optimizer=decay, loggers=[log])
    trainer.grow(benchmark.train[0])
    before = weights(strategy)
    trainer.train(benchmark.train[:1])
    assert same(weights(strategy), before)
    assert len(strategy.clocks) == 4
    assert [event.terms for event in log.steps()] == [{}]


def test_phases_that_have_nothing_to_do(make_model: Any, make_benchmark: Any) -> None:
    """No samples, no epochs, no parameters: the first two take no step, the third takes them and moves nothing."""

    class Idle(Noting):
        def phases(self, experience: Experience) -> Iterator[Phase]:
            yield Phase(name="no samples", data=experience.data[:0])
            yield Phase(name="no epochs", data=experience.data, epochs=0)
            yield Phase(name="no parameters", data=experience.data, parameters=[])

    strategy, benchmark = Idle(make_model()), make_benchmark()
    trainer = make_trainer(strategy)
    trainer.grow(benchmark.train[0])
    before = weights(strategy)
    trainer.train(benchmark.train[:1])
    assert [clock.phase for clock in strategy.clocks] == ["no parameters"] * 4
    assert same(weights(strategy), before)


# ------------------------------------------------------------------------------------------------ optimizer state


@pytest.mark.parametrize("optimizer_state", ["reset", "keep"])
def test_momentum_from_one_experience_to_the_next(optimizer_state: str, make_model: Any, make_benchmark: Any) -> None:
    """One step in each experience, momentum 0.5, lr 0.1. A step is 0.1 times g of the experience, plus, where the state
    is kept, 0.5 times g of the one before in the rows that the head had then."""
    gradients, places = [], []

    class Measuring(Finetune):
        def after_backward(self, batch: Batch) -> None:
            weight = self.model.classifier.classifier.weight
            gradients.append(weight.grad.clone())
            places.append(weight.detach().clone())

        def after_step(self, batch: Batch, objective: Objective) -> None:
            places.append(self.model.classifier.classifier.weight.detach().clone())

    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.5)
    trainer = make_trainer(Measuring(make_model()), optimizer=sgd, batch_size=16, optimizer_state=optimizer_state)
    trainer.train(make_benchmark().train[:2])
    expected = gradients[1].clone()
    assert (gradients[0].shape, gradients[1].shape) == ((2, 8), (4, 8))
    if optimizer_state == "keep":
        expected[:2] += 0.5 * gradients[0]
    torch.testing.assert_close(places[2] - places[3], 0.1 * expected)
    assert gradients[0].abs().max() > 0.01
