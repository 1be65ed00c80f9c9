"""Handing jobs that are composed and checked already to one of Hydra's launchers."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from clx.app import execute, sweep_job
from clx.config import Mistake
from clx.jobs import Job
from clx.trust import check_hydra

# What a launcher needs beyond the core: package of its plugin -> name of the extra.
EXTRAS = {"hydra_joblib_launcher": "joblib", "hydra_submitit_launcher": "submitit", "hydra_ray_launcher": "ray"}


class ComposedJobs:
    """Stands in for Hydra's config loader: the one word of a job is the job itself, as JSON.

    So nothing is composed a second time in a worker, and what runs is what was checked.
    """

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of one job as a launcher expects it: Hydra's node, and the job."""
        job = json.loads(sweep_overrides[0])
        folder = Path(job["folder"])
        cfg = copy.deepcopy(master_config)
        OmegaConf.set_readonly(cfg.hydra, False)  # a launcher numbers its jobs there
        with open_dict(cfg):
            for key in [key for key in cfg if key != "hydra"]:
                cfg.pop(key)
            cfg.job = job
            cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir = str(folder.parent), folder.name
        return cfg


def alone(job: Job, cfg: DictConfig) -> int:
    """Run one job here, as Hydra runs one: in its folder, with the callbacks and variables that its node names.

    cfg: the job as it was composed. Returns an exit code.
    """
    _prepare(cfg)
    callbacks = Callbacks(cfg)
    context = HydraContext(config_loader=cast(ConfigLoader, ComposedJobs()), callbacks=callbacks)
    callbacks.on_run_start(config=cfg, config_name="config")
    done = run_job(
        lambda _: execute(job.config, job.folder),
        config=cfg,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
        hydra_context=context,
    )
    callbacks.on_run_end(config=cfg, config_name="config", job_return=done)
    return int(done.return_value)


def _prepare(cfg: DictConfig) -> None:
    check_hydra(cfg)
    setup_globals()
    version.setbase("1.3")
    with open_dict(cfg):
        cfg.hydra.job.name = "clx"


class Launcher:
    """One of Hydra's launchers, as `hydra/launcher=...` chose it. Raises Mistake where its extra is not installed.

    master: the configuration of the whole command with Hydra's node.
    """

    def __init__(self, master: DictConfig) -> None:
        _prepare(master)
        with open_dict(master):
            # Resolved here, not in a worker: the number of cores may be another there.
            OmegaConf.resolve(master.hydra.launcher)
            OmegaConf.resolve(master.hydra.job.env_set)
            self.at_once = master.hydra.sweeper.get("max_batch_size")
            if "runs_at_once" in master.hydra.launcher:  # of a launcher that has no limit of its own
                self.at_once = master.hydra.launcher.pop("runs_at_once")
        HydraConfig.instance().set_config(master)
        self.callbacks = Callbacks(master)
        context = HydraContext(config_loader=cast(ConfigLoader, ComposedJobs()), callbacks=self.callbacks)
        self.master = master
        try:
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=sweep_job, config=master
            )
        except (RuntimeError, ImportError, TypeError) as error:
            raise Mistake(_missing(master, error)) from error

    def __call__(self, jobs: Sequence[Job]) -> None:
        """Run the jobs; returns when all have ended. What became of them is in their folders."""
        words = [[_word(job)] for job in jobs]
        size = self.at_once or len(words)
        self.callbacks.on_multirun_start(config=self.master, config_name="config")
        for start in range(0, len(words), size):
            self.launcher.launch(words[start : start + size], initial_job_idx=start)
        self.callbacks.on_multirun_end(config=self.master, config_name="config")

    def close(self) -> None:
        """Let idle workers go at once; at their own pace they take a second to end. What they did is in the folders."""
        loky = sys.modules.get("joblib.externals.loky.reusable_executor")
        executor = getattr(loky, "_executor", None)
        if executor is not None:
            executor.shutdown(wait=True, kill_workers=True)


def _word(job: Job) -> str:
    return json.dumps({"config": job.config, "folder": str(job.folder.absolute()), "cwd": str(Path.cwd())})


def _missing(master: DictConfig, error: Exception) -> str:
    target = str(master.hydra.launcher.get("_target_"))
    name = master.hydra.runtime.choices.get("hydra/launcher")
    extra = next((extra for package, extra in EXTRAS.items() if f".{package}." in target), None)
    if extra is not None and "nknown plugin" in str(error):
        return f"hydra/launcher={name}: its package is not installed; pip install 'clx[{extra}]'"
    return f"hydra/launcher={name}: {str(error).splitlines()[0]}"
