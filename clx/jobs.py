"""What a command line stands for: its jobs, each composed and checked before the first one starts."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

import clx.folder  # noqa: F401 - its resolver names the folders
from clx.app import load_data, refuse_another, refuse_ensemble, refuse_running
from clx.build import build
from clx.config import Conflict, Mistake, compose, first_line, loader, plain
from clx.store.run import read_status
from clx.validation import check
from clx.words import COMPOSITION_ERRORS, check_words, diagnose, parse

MANY = 20  # jobs, whose checking takes long enough to be shown


@dataclass(frozen=True)
class Job:
    """One run to be: what was typed for it, its configuration and its folder."""

    overrides: list[str]
    config: dict[str, Any]
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do for it."""
        return not self.config["rerun"] and read_status(self.folder)["state"] == "finished"


def master(overrides: Sequence[str], folders: Sequence[str]) -> DictConfig:
    """The configuration of a whole command with -m, what is swept left open. Raises Mistake."""
    try:
        check_words(overrides, folders)
        own = loader(*folders)
        cfg = own.load_configuration("config", list(overrides), RunMode.MULTIRUN, validate_sweep_overrides=False)
    except COMPOSITION_ERRORS as error:
        raise Mistake(diagnose(overrides, folders, error)) from error
    for part in ("launcher", "sweeper"):
        if not isinstance(cfg.hydra[part], DictConfig):
            raise Mistake(f"hydra.{part}={cfg.hydra[part]}: holds keys; choose an option with hydra/{part}=...")
    size = cfg.hydra.sweeper.get("max_batch_size")
    if size is not None and size < 1:
        raise Mistake(f"hydra.sweeper.max_batch_size={size}: must be at least 1, or null for all jobs at once")
    return cfg


def split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words of the experiment, words for Hydra itself)."""
    of_hydra = [o for o in overrides if o.lstrip("+~").startswith(("hydra.", "hydra/"))]
    return [o for o in overrides if o not in of_hydra], of_hydra


def grid(cfg: DictConfig, overrides: Sequence[str], folders: Sequence[str]) -> list[Job]:
    """Every combination that a command with -m and Hydra's basic sweeper stands for, all checked.

    Raises Mistake, naming the job. A strategy that does not fit its benchmark is no mistake in a grid: that job
    records itself as skipped when its turn comes.
    """
    own, of_hydra = split(overrides)
    parameters = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()]
    try:
        parsed = parse([*parameters, *own], folders)
        endless = next((o for o in parsed if o.is_interval_sweep()), None)
        if endless is not None:
            raise Mistake(
                f"{endless.input_line}: a grid has no end there; search it with hydra/sweeper=optuna, or list values"
            )
        expanded = [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
    except COMPOSITION_ERRORS as error:
        raise Mistake(diagnose(overrides, folders, error)) from error
    if not expanded:
        raise Mistake(f"{' '.join(own)}: stands for no run; a glob(...) in it matches no option")
    count = len(expanded)
    jobs = []
    for number, typed in enumerate(expanded):  # all of them before the first is built: a typo is found at once
        with _naming(f"job {number + 1} of {count} ({' '.join(typed)})"):
            jobs.append(_composed_job(typed, folders, of_hydra, grid=True))
    shown = sys.stderr.isatty() and count >= MANY
    console = Console(stderr=True)
    for number, job in enumerate(track(jobs, "checking", console=console, transient=True, disable=not shown)):
        with _naming(f"job {number + 1} of {count} ({' '.join(job.overrides)})"):
            check_job(job, grid=True)
    return jobs


@contextlib.contextmanager
def _naming(job: str) -> Iterator[None]:
    try:
        yield
    except Mistake as mistake:
        raise Mistake(f"{job}: {mistake}") from mistake


def prepare(
    overrides: Sequence[str], folders: Sequence[str], of_hydra: Sequence[str] = (), *, grid: bool = False
) -> Job:
    """Compose, check and build one job without training it; grid: one of a sweep. Raises Mistake."""
    return check_job(_composed_job(overrides, folders, of_hydra, grid=grid), grid=grid)


def _composed_job(overrides: Sequence[str], folders: Sequence[str], of_hydra: Sequence[str], *, grid: bool) -> Job:
    cfg = composed([*overrides, *of_hydra], folders)
    try:
        config = plain(cfg)
        place = (cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir) if grid else (cfg.hydra.run.dir,)
    except COMPOSITION_ERRORS as error:
        raise Mistake(diagnose(overrides, folders, error)) from error
    if cfg.hydra.mode is RunMode.MULTIRUN:
        raise Mistake("hydra.mode=MULTIRUN: to sweep, type -m instead")
    if not place[-1].strip():
        raise Mistake(f"{'hydra.sweep.subdir' if grid else 'hydra.run.dir'}={place[-1]!r}: must name a folder")
    return Job(list(overrides), config, Path(*place))


def composed(overrides: Sequence[str], folders: Sequence[str]) -> DictConfig:
    """What Hydra makes of the words. Raises Mistake where it cannot."""
    try:
        check_words(overrides, folders)
        return compose(overrides, folders)
    except COMPOSITION_ERRORS as error:
        raise Mistake(diagnose(overrides, folders, error)) from error


def showable(
    overrides: Sequence[str], folders: Sequence[str], package: str | None = None, *, resolved: bool = False
) -> DictConfig:
    """The same for what is only shown; package: the key of the part to show. Raises Mistake where there is no such part
    or, with resolved, where an interpolation leads nowhere."""
    cfg = composed(overrides, folders)
    try:
        if package is not None and OmegaConf.select(cfg, package) is None:
            raise Mistake(f"--package {package}: there is no such key with a value")
        if resolved:
            plain(cfg)
    except COMPOSITION_ERRORS as error:
        raise Mistake(diagnose(overrides, folders, error)) from error
    return cfg


def check_job(job: Job, *, grid: bool = False) -> Job:
    """The job again, checked; one that is finished already needs no check."""
    refuse_ensemble(job.config)
    if not grid:  # in a sweep the others go on; that job says so when its turn comes
        refuse_running(job.folder)
        refuse_another(job.config, job.folder)
    if job.finished:
        return job
    try:
        check(job.config)
    except Mistake as mistake:
        raise Mistake(f"{mistake}{_origin(str(mistake), job)}") from mistake
    writable(job.folder)
    try:
        load_data(build(job.config).benchmark)
    except Conflict:
        if not grid:
            raise
    except (ArithmeticError, MemoryError, RuntimeError) as error:  # sizes that no machine has
        raise Mistake(f"benchmark.data: {first_line(error)}") from error
    return job


def _origin(text: str, job: Job) -> str:
    """Where a refused key came from, where it was not typed."""
    key = text.split(":", 1)[0].split("=", 1)[0]
    typed = any(override.lstrip("+").startswith(key) for override in job.overrides)
    experiment = job.config["choices"].get("experiment")
    return f" (set by experiment={experiment})" if experiment and not typed else ""


def writable(folder: Path) -> None:
    """Raise Mistake where the folder cannot be made or written to; leaves nothing behind."""
    if "\0" in str(folder):
        raise Mistake(f"{folder}: the name of a folder cannot hold the character NUL; set output_root=FOLDER")
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
    except OSError as error:  # one that no file system takes
        raise Mistake(f"output_root: {folder}: {error.strerror}; set output_root=FOLDER") from error
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problem = "is not a folder" if not existing.is_dir() else "cannot be written"
        beyond = "" if existing == folder else f", so {folder} cannot be made"
        raise Mistake(f"output_root: {existing} {problem}{beyond}; set output_root=FOLDER")
