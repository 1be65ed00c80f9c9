"""A search for good values: Optuna suggests, clx runs each suggestion on validation data and tells what came of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from clx.config import Mistake, loader
from clx.jobs import Job, prepare, split
from clx.runtime import machine
from clx.store.files import write_yaml
from clx.store.identity import digest, nearest, show
from clx.store.records import LOWER_IS_BETTER, read
from clx.sweep.grid import complete
from clx.sweep.launch import Launcher
from clx.validation import check_objective

SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
    "nsgaii": "NSGAIISampler",
}
ON_VALIDATION = "trainer.evaluate_on=validation"


@dataclass(frozen=True)
class Settings:
    """The keys of hydra/sweeper=optuna (conf/hydra/sweeper/optuna.yaml)."""

    n_trials: int
    at_once: int | None
    sampler: str
    seed: int
    direction: Any
    storage: str | None
    study_name: str | None
    params: Mapping[str, str]


class Search:
    """One study: a space, the words that are the same in every trial, and what is optimised."""

    def __init__(self, master: DictConfig, overrides: Sequence[str], folders: Sequence[str]) -> None:
        values: Any = OmegaConf.to_container(master.hydra.sweeper, resolve=True)
        self.settings = Settings(**{k: v for k, v in values.items() if k not in ("_target_", "max_batch_size")})
        typed, self.of_hydra = split(overrides)
        self.folders = folders
        self.fixed, self.space = _space([*(f"{k}={v}" for k, v in self.settings.params.items()), *typed], folders)
        if any(word.lstrip("+").startswith("trainer.evaluate_on=test") for word in self.fixed):
            raise Mistake("trainer.evaluate_on=test: a search never looks at test data; leave the key out")
        self.fixed = [word for word in self.fixed if word != ON_VALIDATION] + [ON_VALIDATION]
        objective = master.objective
        self.objective = check_objective(list(objective) if OmegaConf.is_list(objective) else objective)
        held_back = master.trainer.evaluate_on != "test" or master.trainer.validate_only_first is not None
        self.on_test = ["trainer.evaluate_on=test", "trainer.validate_only_first=null"] if held_back else []
        self.root = Path(master.output_root).expanduser()
        choices = master.hydra.runtime.choices
        facts = {"fixed": sorted(self.fixed), "objective": self.objective, "seed": self.settings.seed}
        facts |= {"space": {name: repr(distribution) for name, distribution in sorted(self.space.items())}}
        name = f"{choices['benchmark']}-{choices['strategy']}-{digest(facts)}"
        self.name = self.settings.study_name or name
        self.place = self.root / "searches" / self.name

    def run(self, launch: Launcher, at_once: int) -> int:
        """Go on until n_trials trials are over; returns an exit code."""
        study = self._study()
        while True:
            trials = study.get_trials(deepcopy=False)
            over = sum(trial.state.is_finished() for trial in trials)
            if over >= self.settings.n_trials:
                break
            batch = [trial for trial in trials if not trial.state.is_finished()]  # begun when the search was stopped
            new = min(at_once, self.settings.n_trials - over) - len(batch)
            batch.extend(self._ask(study) for _ in range(new))
            jobs = {trial.number: self._job(trial.params) for trial in batch}
            if not complete(list(jobs.values()), launch, self.root, say=False):
                print(f"\nstopped after {over} of {self.settings.n_trials} trials; the same command goes on")
                return 130
            for trial in batch:
                self._tell(study, trial, jobs[trial.number])
        return self._conclude(study)

    def _study(self) -> Any:
        import optuna  # noqa: PLC0415 - an extra
        from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.place.mkdir(parents=True, exist_ok=True)
        journal = JournalFileBackend(str(self.place / "study.journal"))
        study = optuna.create_study(
            study_name=self.name,
            storage=self.settings.storage or optuna.storages.JournalStorage(journal),
            directions=self._directions(),
            load_if_exists=True,
        )
        print(f"search {self.name}: {', '.join(self.space)} for {', '.join(self.objective)} on validation data")
        print(f"kept in {self.settings.storage or self.place}, {len(study.trials)} trials so far", flush=True)
        return study

    def _directions(self) -> list[Any]:
        given = self.settings.direction
        if given is None:
            return ["minimize" if name in LOWER_IS_BETTER else "maximize" for name in self.objective]
        directions = list(given) if isinstance(given, list) else [given]
        if len(directions) != len(self.objective) or not set(directions) <= {"maximize", "minimize"}:
            raise Mistake(f"hydra.sweeper.direction={given}: maximize or minimize, one for each objective")
        return directions

    def _ask(self, study: Any) -> Any:
        import optuna  # noqa: PLC0415

        # Seeded by the trial's number: a search that was stopped suggests what the unstopped one would have.
        kind = getattr(optuna.samplers, SAMPLERS[self.settings.sampler])
        study.sampler = kind(seed=self.settings.seed + len(study.get_trials(deepcopy=False)))
        return study.ask(self.space)

    def _job(self, params: Mapping[str, Any]) -> Job:
        words = [*self.fixed, *(f"{key}={value}" for key, value in params.items())]
        return prepare(words, self.folders, self.of_hydra, grid=True)

    def _tell(self, study: Any, trial: Any, job: Job) -> None:
        import optuna  # noqa: PLC0415

        try:
            values = [read(job.folder).values[name] for name in self.objective]
        except ValueError as error:
            values, reason = None, str(error)
        if values is None or None in values:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            outcome = reason if values is None else "not measured"
        else:
            study.tell(trial.number, values)
            outcome = ", ".join(f"{n} {v:.4f}" for n, v in zip(self.objective, values, strict=True) if v is not None)
        shown = " ".join(f"{key}={_shown(value)}" for key, value in trial.params.items())
        print(f"[{trial.number + 1}/{self.settings.n_trials}] {shown}   {outcome}", flush=True)

    def _conclude(self, study: Any) -> int:
        best = list({str(trial.params): trial for trial in reversed(study.best_trials)}.values())[::-1]  # each once
        if not best:
            print("clx: no trial of the search finished; their folders say why", file=sys.stderr)
            return 1
        fixed = [word for word in self.fixed if not word.startswith(("trainer.evaluate_on", "trainer.validate_only"))]
        for trial in best:
            words = [*fixed, *self.on_test, *(f"{key}={_shown(value)}" for key, value in trial.params.items())]
            values = ", ".join(f"{n} {v:.4f}" for n, v in zip(self.objective, trial.values, strict=True))
            print(f"\nbest: {values} on validation data, trial {trial.number + 1}; on test data:")
            print(f"  clx {' '.join(words)}")
        found = [{"trial": t.number + 1, "values": list(t.values), "params": dict(t.params)} for t in best]
        write_yaml(self.place / "best.yaml", {"objective": self.objective, "trials": len(study.trials), "best": found})
        print(f"{self.place / 'best.yaml'}", flush=True)
        return 0


def search(master: DictConfig, overrides: Sequence[str], folders: Sequence[str]) -> int:
    """Carry out a command with hydra/sweeper=optuna; its exit code. Raises Mistake."""
    try:
        import optuna  # noqa: F401, PLC0415
    except ImportError as error:
        raise Mistake("hydra/sweeper=optuna: Optuna is not installed; pip install 'clx[optuna]'") from error
    made = Search(master, overrides, folders)
    settings = made.settings
    if settings.sampler not in SAMPLERS:
        close = nearest(settings.sampler, list(SAMPLERS))
        raise Mistake(f"hydra.sweeper.sampler={settings.sampler}: must be one of {', '.join(SAMPLERS)}{close}")
    if not made.space:
        raise Mistake(
            "hydra/sweeper=optuna: nothing to search; give a range, 'optimizer.lr=tag(log,interval(0.001,1))'"
        )
    parallel = master.hydra.runtime.choices.get("hydra/launcher") != "basic"
    launch = Launcher(master)
    try:
        return made.run(launch, settings.at_once or (machine.workers() if parallel else 1))
    finally:
        launch.close()


def _space(words: Sequence[str], folders: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """(words that are the same in all trials, key -> Optuna's distribution)."""
    try:
        parsed = OverridesParser.create(config_loader=loader(*folders)).parse_overrides(list(words))
    except HydraException as error:
        raise Mistake(str(error).splitlines()[0]) from error
    last = {override.get_key_element(): override for override in parsed}  # what is typed beats what a file says
    space = {key: _distribution(o) for key, o in last.items() if o.is_sweep_override()}
    return [str(o.input_line) for o in last.values() if not o.is_sweep_override()], space


def _distribution(override: Override) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: PLC0415

    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        kind: Any = (
            IntDistribution if isinstance(value.start, int) and isinstance(value.end, int) else FloatDistribution
        )
        return kind(value.start, value.end, log="log" in value.tags)
    assert isinstance(value, ChoiceSweep | RangeSweep)
    choices: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
    return CategoricalDistribution(choices)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else show(value)
