"""What the trackers share: names, hyper-parameters, where a run lies and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clx.logger.base import Evaluated, ExperienceDone, RunFinished, RunStarted, StepDone
from clx.logger.tracker import State, Told, Tracker, as_text, hyper_parameters, numbers, run_name


class Listing(Tracker):
    """Remembers what it is told."""

    def __init__(self, path: str | None = None) -> None:
        super().__init__(path)
        self.told: list[Any] = []

    def _begin(self, event: RunStarted) -> None:
        self.told.append(event.title)

    def _record(self, event: Told, values: Mapping[str, float]) -> None:
        self.told.append((self.step, dict(values)))

    def _end(self, state: State) -> None:
        self.told.append(state)


def test_names() -> None:
    """The mean counts what was measured: (0.5 + 1) / 2; nothing measured, no entry; what is not finite, no entry."""
    step = StepDone(0, "train", 0, 1, 1, 1, 1, {"ce": 0.5, "kl": float("inf"), "ewc": float("nan")}, None)
    assert numbers(step) == {"loss/ce": 0.5}
    evaluated = Evaluated(2, [0.5, None, 1.0], [None, None, None], 7)
    assert numbers(evaluated) == {"accuracy/0": 0.5, "accuracy/2": 1.0, "accuracy/mean": 0.75}
    finished = RunFinished({"forgetting": None, "plasticity": 1.0}, [], 2.0, {"plasticity": 0.5}, [], {"bytes": 8})
    assert numbers(finished) == {"metrics/plasticity": 1.0, "task_aware/plasticity": 0.5, "cost/bytes": 8.0}
    assert numbers(ExperienceDone(0, 2, 1.0, [0.5])) == {}


def test_hyper_parameters(config: dict[str, Any]) -> None:
    """What is chosen and set; neither loggers, which may hold an address with a password, nor what only builds."""
    assert hyper_parameters(config) == {
        "seed": 3,
        "name": None,
        "tags": ["trial"],
        "choices.benchmark": "digits",
        "choices.strategy": "er",
        "strategy._target_": "clx.strategy.er.ER",
        "strategy.replay_size": 4,
        "optimizer.lr": 0.05,
        "optimizer.betas": [0.9, 0.99],
        "optimizer.nesterov": True,
        "trainer.eval_every": 0,
        "trainer.checkpoint_every": "experience",
    }
    assert [as_text(value) for value in ("a", None, True, 0.5, [1, "b"])] == ["a", "null", "true", "0.5", '[1, "b"]']


def test_a_persons_name_goes_before_the_title() -> None:
    assert run_name(RunStarted("digits/er", 2, config={"name": "mine"})) == "mine"
    assert run_name(RunStarted("digits/er", 2, config={"name": None})) == "digits/er"
    assert run_name(RunStarted("digits/er", 2)) == "digits/er"


def test_where_it_writes(tmp_path: Path) -> None:
    """Its path, else the run's folder; without either it says what to give."""
    logger = Listing()
    logger.on(RunStarted("x", 1, folder=tmp_path))
    assert logger._place("name") == tmp_path / "name"
    assert Listing(str(tmp_path / "own"))._place("name") == tmp_path / "own"
    with pytest.raises(ValueError, match="path None: this run has no folder to write into; give the logger a path"):
        Listing()._place("name")


def test_the_picture_is_that_of_the_folder(folder: Path, tmp_path: Path) -> None:
    logger = Listing()
    for place, picture in ((folder, folder / "matrix.png"), (tmp_path, None), (None, None)):
        logger.on(RunStarted("x", 1, folder=place))
        assert logger._matrix_picture() == picture


def test_a_run_that_finished() -> None:
    """The summary stands at the last step, and closing twice ends the run once."""
    logger = Listing()
    logger.on(RunStarted("x", 1, total_step=5))
    logger.on(StepDone(0, "train", 0, 1, 1, 1, 6, {"ce": 0.5}))
    logger.on(RunFinished({"a": 1.0}, [], 1.0))
    logger.close()
    logger.close()
    assert logger.told == ["x", (6, {"loss/ce": 0.5}), (6, {"metrics/a": 1.0}), "finished"]


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "killed"), (RuntimeError, "failed")])
def test_a_run_that_did_not(error: type[BaseException], state: str) -> None:
    logger = Listing()

    def run() -> None:
        try:
            logger.on(RunStarted("x", 1))
            raise error
        finally:
            logger.close()

    with pytest.raises(error):
        run()
    assert logger.told == ["x", state]


def test_a_run_that_just_stops_has_failed() -> None:
    logger = Listing()
    logger.on(RunStarted("x", 1))
    logger.close()
    assert logger.told == ["x", "failed"]


def test_a_trainer_on_its_own(make_benchmark: Any, make_model: Any) -> None:
    """It neither says that it begins nor that it finishes: 2 x 8 samples in batches of 8 are 2 steps."""
    from clx.loop.trainer import Trainer
    from clx.strategy.finetune import Finetune

    logger = Listing()
    trainer = Trainer(Finetune(make_model()), batch_size=8, device="cpu", loggers=[logger])
    trainer.train(make_benchmark().train[0])
    logger.close()
    assert [logger.told[0], logger.told[-1]] == ["clx", "finished"]
    assert [step for step, _ in logger.told[1:-1]] == [2]


def test_a_logger_that_never_began_closes_quietly() -> None:
    logger = Listing()
    logger.close()
    assert logger.told == []
