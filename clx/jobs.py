"""What a command line stands for: its jobs, each composed and checked before the first one starts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import track

import clx.folder  # noqa: F401 - its resolver names the folders
from clx.app import load_data, refuse_another, refuse_running
from clx.build import build
from clx.config import LIST_GROUPS, Conflict, Mistake, compose, loader, plain
from clx.store.identity import flatten, nearest
from clx.store.run import read_status
from clx.validation import check

MANY = 20  # jobs, whose checking takes long enough to be shown
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, OverrideParseException)


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
        own = loader(*folders)
        return own.load_configuration("config", list(overrides), RunMode.MULTIRUN, validate_sweep_overrides=False)
    except COMPOSITION_ERRORS as error:
        raise Mistake(_diagnose(overrides, folders, error)) from error


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
        parsed = OverridesParser.create(config_loader=loader(*folders)).parse_overrides([*parameters, *own])
        endless = next((o for o in parsed if o.is_interval_sweep()), None)
        if endless is not None:
            raise Mistake(
                f"{endless.input_line}: a grid has no end there; search it with hydra/sweeper=optuna, or list values"
            )
        expanded = [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
    except COMPOSITION_ERRORS as error:
        raise Mistake(_diagnose(overrides, folders, error)) from error
    jobs = []
    shown = sys.stderr.isatty() and len(expanded) >= MANY
    console = Console(stderr=True)
    for number, typed in enumerate(track(expanded, "checking", console=console, transient=True, disable=not shown)):
        try:
            jobs.append(prepare(typed, folders, of_hydra, grid=True))
        except Mistake as mistake:
            raise Mistake(f"job {number + 1} of {len(expanded)} ({' '.join(typed)}): {mistake}") from mistake
    return jobs


def prepare(
    overrides: Sequence[str], folders: Sequence[str], of_hydra: Sequence[str] = (), *, grid: bool = False
) -> Job:
    """Compose, check and build one job without training it; grid: one of a sweep. Raises Mistake."""
    cfg = composed([*overrides, *of_hydra], folders)
    try:
        config = plain(cfg)
        folder = Path(cfg.hydra.sweep.dir) / cfg.hydra.sweep.subdir if grid else Path(cfg.hydra.run.dir)
    except COMPOSITION_ERRORS as error:
        raise Mistake(_diagnose(overrides, folders, error)) from error
    job = Job(list(overrides), config, folder)
    return check_job(job, grid=grid)


def composed(overrides: Sequence[str], folders: Sequence[str]) -> DictConfig:
    """What Hydra makes of the words. Raises Mistake where it cannot."""
    try:
        single_choice(overrides, folders)
        return compose(overrides, folders)
    except COMPOSITION_ERRORS as error:
        raise Mistake(_diagnose(overrides, folders, error)) from error


def check_job(job: Job, *, grid: bool = False) -> Job:
    """The job again, checked; one that is finished already needs no check."""
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
    return job


def _origin(text: str, job: Job) -> str:
    """Where a refused key came from, where it was not typed."""
    key = text.split(":", 1)[0].split("=", 1)[0]
    typed = any(override.lstrip("+").startswith(key) for override in job.overrides)
    experiment = job.config["choices"].get("experiment")
    return f" (set by experiment={experiment})" if experiment and not typed else ""


def writable(folder: Path) -> None:
    """Raise Mistake where the folder cannot be made or written to; leaves nothing behind."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problem = "is not a folder" if not existing.is_dir() else "cannot be written"
        raise Mistake(f"output_root: {existing} {problem}, so {folder} cannot be made; set output_root=FOLDER")


def single_choice(overrides: Sequence[str], folders: Sequence[str]) -> None:
    """Refuse a list of options for a group of which one is chosen: Hydra would merge them without a word."""
    repository = loader(*folders).repository
    for override in _parse(overrides):
        key = override.key_or_group
        if key not in LIST_GROUPS and repository.group_exists(key) and isinstance(override.value(), list):
            raise Mistake(f"{key}={_value(override)}: choose one option; to run each of them: -m {key}=A,B")


def _parse(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(overrides))


def _readable(override: str) -> bool:
    try:
        return bool(_parse([override]))
    except COMPOSITION_ERRORS:
        return False


def _value(override: Override) -> str:
    return override.get_value_element_as_str()


def _diagnose(overrides: Sequence[str], folders: Sequence[str], error: Exception) -> str:
    """What is wrong with a command line that does not compose, in one or two lines."""
    try:
        parsed = _parse(overrides)
    except COMPOSITION_ERRORS:
        unreadable = next((o for o in overrides if not _readable(o)), " ".join(overrides))
        return f"{unreadable}: cannot be read as KEY=VALUE; quote a value with special characters: 'KEY=\"VALUE\"'"
    repository = loader(*folders).repository
    for override in parsed:
        if repository.group_exists(override.key_or_group):
            wrong = _unknown_option(override, repository.get_group_options(override.key_or_group))
            if wrong:
                return wrong
    chosen_groups = [o for o in parsed if repository.group_exists(o.key_or_group)]
    deleted = [o for o in chosen_groups if o.is_delete()]
    if deleted:
        return (
            f"~{deleted[0].key_or_group}: a run needs this group; choose an option with {deleted[0].key_or_group}=..."
        )
    try:
        chosen = compose([str(o.input_line) for o in chosen_groups if not o.is_sweep_override()], folders)
        known = list(flatten(OmegaConf.to_container(chosen, resolve=False)))
    except COMPOSITION_ERRORS:
        return _first_line(error)
    for override in parsed:
        wrong = _unknown_key(override, known, repository.get_group_options(""))
        if wrong:
            return wrong
    return _first_line(error, parsed)


def _unknown_option(override: Override, options: list[str]) -> str | None:
    if override.is_sweep_override():
        values = [str(v) for v in override.sweep_iterator()] if override.is_discrete_sweep() else []
    else:
        value = override.value()
        values = [str(v) for v in value] if isinstance(value, list) else [] if value is None else [str(value)]
    shown = [o for o in options if not o.startswith("_")]
    for value in values:
        if value not in options:
            close = nearest(value, shown) or f"; there are {', '.join(shown)}"
            return f"{override.key_or_group}={value}: there is no such option{close}"
    return None


def _unknown_key(override: Override, known: list[str], groups: list[str]) -> str | None:
    key = override.key_or_group
    inner = any(name == key or name.startswith(f"{key}.") for name in known)
    if inner or key.startswith(("hydra.", "hydra/")) or ("/" in key and key.split("/")[0] in groups):
        return None
    if override.is_add() and "." in key:
        return None
    own = [name for name in known if not name.startswith("hydra.")]
    candidates = sorted({*own, *(name.split(".", 1)[0] for name in own), *groups})
    close = nearest(key, candidates) or nearest(key.rsplit(".", 1)[-1], candidates)
    if not close:
        siblings = [n for n in own if n.startswith(key.rsplit(".", 1)[0] + ".")] or sorted(
            {n.split(".")[0] for n in own}
        )
        close = f"; there are {', '.join(siblings)}"
    return f"{key}: there is no such key{close}"


def _first_line(error: BaseException, parsed: Sequence[Override] = ()) -> str:
    """The innermost message of a composition error, with the key and value that it is about."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    full_key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), None)
    text = lines[0] if lines else type(error).__name__
    ambiguous = re.match(r"Ambiguous value for argument '(.*)'", text)
    if ambiguous:
        return f"{ambiguous.group(1)}: one run takes one value; add -m to run each, or write a list as [A,B]"
    if full_key:
        typed = next((o for o in parsed if o.key_or_group == full_key), None)
        expected = re.search(r"could not be converted to (\w+)|is not a valid (\w+)", text)
        if typed is not None and expected:
            word = expected.group(1) or expected.group(2)
            kinds = {"Integer": "an integer", "Float": "a number", "bool": "true or false"}
            return f"{full_key}={_value(typed)}: must be {kinds.get(word, word)}"
        return f"{full_key}: {text}"
    return text
