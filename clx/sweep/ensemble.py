"""trainer.ensemble: the runs of several seeds by one command, trained at once, each in the folder that is its own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clx.app import course, load_data
from clx.build import build
from clx.config import Conflict, Mistake, first_line
from clx.jobs import Job, prepare
from clx.runtime.signals import terminable
from clx.store.run import RunStore, exit_code
from clx.sweep.grid import sum_up
from clx.sweep.watch import Watch
from clx.validation import AT_LEAST, check_values

KEY = "trainer.ensemble"


def seeds(cfg: DictConfig) -> list[int] | None:
    """The seeds that a command names there, or None. Raises Mistake for an interpolation to nowhere."""
    try:
        found = OmegaConf.select(cfg, KEY)
        given = OmegaConf.to_container(found, resolve=True) if OmegaConf.is_list(found) else found
    except OmegaConfBaseException as error:
        raise Mistake(f"{KEY}: {first_line(error)}") from error
    if given is not None and not (isinstance(given, list) and all(type(seed) is int for seed in given)):
        raise Mistake(f"{KEY}={given}: must be a list of seeds, as in [0,1,2]")
    return given


def run(chosen: Sequence[int], overrides: Sequence[str], folders: Sequence[str]) -> int:
    """Train what is not finished of these seeds; the exit code. folders: of a person's own configs.

    Raises Mistake before anything has been started: Conflict where the runs cannot be trained as one.
    """
    _check(chosen)
    jobs = [prepare(_words(overrides, seed), folders) for seed in chosen]
    places = [job.folder for job in jobs]
    if len(set(places)) < len(places):
        raise Mistake(f"hydra.run.dir={places[0]}: the runs of {_shown(chosen)} need a folder each; leave it as it is")
    todo = [job for job in jobs if not job.finished]
    if len(todo) > 1:
        _refuse(chosen, todo)
    root = Path(jobs[0].config["output_root"]).expanduser()
    if len(todo) < len(jobs):
        print(
            f"{len(jobs) - len(todo)} of {len(jobs)} runs are finished already; rerun=true runs them again", flush=True
        )
    whole = _train(chosen, todo, Watch(places, [job.folder for job in jobs if job.finished], root))
    sum_up(places, root)
    return exit_code(places) if whole else 130


def _check(chosen: Sequence[int]) -> None:
    """Raise Mistake where these are no seeds of several runs."""
    check_values(list(chosen), KEY)
    if not chosen or len(set(chosen)) < len(chosen):
        raise Mistake(f"{_shown(chosen)}: must name each seed once; [0,1,2] trains three runs at once, null one")
    if min(chosen) < AT_LEAST["seed"]:
        raise Mistake(f"{_shown(chosen)}: each seed must be at least {AT_LEAST['seed']}")


def _words(overrides: Sequence[str], seed: int) -> list[str]:
    """What one of the runs would be started with on its own."""
    typed = {word.lstrip("+~").partition("=")[0]: word for word in overrides}
    if "seed" in typed:
        raise Mistake(f"{typed['seed']}: {KEY} names the seeds already; leave one of the two out")
    kept = [word for word in overrides if word.lstrip("+~").partition("=")[0] != KEY]
    return [*kept, f"{KEY}=null", f"seed={seed}"]


def _shown(chosen: Sequence[int]) -> str:
    return f"{KEY}=[{','.join(map(str, chosen))}]"


def _refuse(chosen: Sequence[int], jobs: Sequence[Job]) -> None:
    """Raise Conflict where a try with the first two shows that they cannot be trained as one."""
    from clx.loop.together import refusal  # noqa: PLC0415 - torch

    courses = []
    for job in jobs[:2]:
        built = build(job.config)
        load_data(built.benchmark)
        built.trainer.attach(built.benchmark.transform)
        courses.append(built.trainer.course(built.benchmark.train[0]))
    reason = refusal(courses)
    if reason is not None:
        rest = ",".join(map(str, chosen))
        raise Conflict(f"{_shown(chosen)}: {reason}; clx -m seed={rest} trains them one after the other")


def _train(chosen: Sequence[int], jobs: Sequence[Job], watch: Watch) -> bool:
    """Train the jobs; False where a signal ended it. What became of each is in its folder."""
    from clx.loop.together import together  # noqa: PLC0415 - torch

    stores = [RunStore(job.folder) for job in jobs]
    arounds: list[Callable[[], Any]] = [partial(_aside, store, stores) for store in stores]
    with terminable() as stop, watch:
        courses = [course(job.config, store, stop, chosen) for job, store in zip(jobs, stores, strict=True)]
        try:
            together(courses, arounds, stopping=lambda: stop.requested)
        except KeyboardInterrupt:
            return False
        finally:
            for store in stores:
                store.close()
            stop.hand_on()
    return True


@contextlib.contextmanager
def _aside(store: RunStore, stores: Sequence[RunStore]) -> Iterator[None]:
    """One run's code at work: what it says goes to its console.log, what it logs to its own run.log alone."""
    store.folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    for other in stores:
        other.telling = other is store
    try:
        with (
            (store.folder / "console.log").open("a") as said,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            yield
    finally:
        for other in stores:
            other.telling = True
