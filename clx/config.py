"""Composing a configuration. Only this layer knows Hydra and OmegaConf."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf

from clx.runtime import machine
from clx.store.files import read_document, yaml_problem

LIST_GROUPS = ("regularizer", "logger")  # groups of which several options can be chosen at once
MAY_BE_EMPTY = (*LIST_GROUPS, "buffer", "scheduler")  # groups with an option `none`; `regularizer=[]` composes to None
TRUSTED = ("clx", "torch", "torchvision")


class Mistake(Exception):
    """Something that the person who typed the command can mend; its text is what they read."""


def first_line(error: BaseException) -> str:
    """What the message of an exception begins with; its name where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Occupied(Mistake):
    """The folder belongs to somebody else: another process, or another run. Nothing is written there."""


class Conflict(Mistake):
    """Parts that are right each on their own, but not together; a sweep records such a job as skipped."""


@dataclass
class TrainerConfig:
    """Types of the keys under `trainer`; their values are in conf/config.yaml."""

    epochs: int = MISSING
    batch_size: int = MISSING
    eval_batch_size: int = MISSING
    eval_every: int = MISSING
    eval_steps: int | None = MISSING
    evaluate_on: str = MISSING
    validate_only_first: int | None = MISSING
    checkpoint_every: str = MISSING
    device: str = MISSING
    precision: str = MISSING
    num_threads: int | None = MISSING
    optimizer_state: str = MISSING
    max_steps: int | None = MISSING
    clip_norm: float | None = MISSING
    # Newer than some stored configurations, which have none of these keys.
    on_nonfinite: str = "stop"
    deterministic: bool = False
    ensemble: list[int] | None = None
    compile: str | None = None
    channels_last: bool = False


@dataclass
class RunConfig:
    """Types of the top level; the groups' own keys are checked against the classes that they name."""

    seed: int = MISSING
    name: str | None = MISSING
    tags: list[str] = field(default_factory=list)
    data_root: str = MISSING
    output_root: str = MISSING
    rerun: bool = MISSING
    objective: Any = MISSING
    trusted_packages: list[str] = field(default_factory=list)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    benchmark: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = field(default_factory=dict)
    buffer: Any = field(default_factory=dict)
    regularizer: Any = field(default_factory=dict)
    strategy: Any = MISSING
    logger: Any = field(default_factory=dict)


def conf_folder() -> Path:
    """The configuration files: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def register() -> None:
    """Tell Hydra the schema and OmegaConf the resolvers that conf/ uses."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    OmegaConf.register_new_resolver("workers", machine.workers, replace=True)
    OmegaConf.register_new_resolver("threads", machine.threads, replace=True)
    OmegaConf.register_new_resolver("gpus_a_run", lambda: min(1, machine.gpus()), replace=True)
    OmegaConf.register_new_resolver("unless", lambda value, other: value if other is None else None, replace=True)


@functools.cache
def loader(*folders: str) -> ConfigLoaderImpl:
    """A loader over conf/ and, before it, folders of a person's own."""
    Plugins.instance()
    _replace_launchers()
    path = create_config_search_path(str(conf_folder()))
    for folder in folders:
        path.prepend(provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    made = ConfigLoaderImpl(config_search_path=path)
    made.repository = Files(path)
    return made


class Files(ConfigRepository):
    """Hydra's way to the files of options; those of a person's own are judged before it reads them."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        """As Hydra does. Raises Mistake where the file is no YAML, or too large to be an option."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() != "file" or Path(source.path) == conf_folder():
            return super().load_config(config_path)
        file = Path(source.path) / source._normalize_file_name(config_path)
        try:
            content = read_document(file)
            if not isinstance(content, dict | None):
                raise Mistake(f"{file} holds no mapping; expected the keys of an option, KEY: VALUE")
            return super().load_config(config_path)
        except yaml.YAMLError as error:  # Hydra is stricter: a key stands there once
            raise Mistake(f"{file} is not YAML: {yaml_problem(error)}") from error
        except (OSError, ValueError) as error:
            raise Mistake(str(error)) from error


def _replace_launchers() -> None:
    """The options of hydra/launcher and hydra/sweeper in conf/ stand for the plugins' own of the same name: Hydra
    would merge the two, with a warning each time."""
    stored = ConfigStore.instance().repo.get("hydra", {})
    for file in conf_folder().glob("hydra/*/*.yaml"):
        stored.get(file.parent.name, {}).pop(file.name, None)


def compose(overrides: Sequence[str], folders: Sequence[str] = ()) -> DictConfig:
    """The configuration with Hydra's node, as Hydra composes it. Raises Hydra's own exceptions.

    The choice of options is composed once and kept; single values are set in a copy, as Hydra does it itself. So
    the jobs of a sweep that differ in values alone cost milliseconds.
    """
    own = loader(*folders)
    parsed = OverridesParser.create(config_loader=own).parse_overrides(list(overrides))
    own.validate_sweep_overrides_legal(parsed, RunMode.RUN, from_shell=False)
    values = [o for o in parsed if not _chooses(o, own)]
    choices = tuple(str(o.input_line) for o in parsed if _chooses(o, own))
    cfg = copy.deepcopy(_composed(choices, tuple(folders), _stamp(folders)))
    own._apply_overrides_to_config(values, cfg)
    for override in values:
        of = cfg.hydra.overrides.hydra if override.is_hydra_override() else cfg.hydra.overrides.task
        of.append(override.input_line)
    cfg.hydra.runtime.cwd = str(Path.cwd())
    return cfg


def _chooses(override: Override, own: ConfigLoaderImpl) -> bool:
    key = override.key_or_group
    return override.package is not None or key == "hydra.searchpath" or own.repository.group_exists(key)


@functools.lru_cache(maxsize=1024)
def _composed(choices: tuple[str, ...], folders: tuple[str, ...], _stamp: float) -> DictConfig:
    """_stamp: of the folders' files, which a person may change while a process lives."""
    return loader(*folders).load_configuration("config", list(choices), run_mode=RunMode.RUN, from_shell=False)


def _stamp(folders: Sequence[str]) -> float:
    files = (file for folder in folders for file in Path(folder).rglob("*.yaml"))
    return sum(file.stat().st_mtime for file in files)


def plain(cfg: DictConfig, hydra: Any = None) -> dict[str, Any]:
    """The resolved configuration as plain values, and `choices`: the option of each group.

    hydra: Hydra's node, where it has been taken off the configuration already.
    """
    own = cfg.copy()
    OmegaConf.set_readonly(own, False)
    OmegaConf.set_struct(own, False)
    own.pop("hydra", None)
    values: dict[str, Any] = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    for group in MAY_BE_EMPTY:
        values[group] = values[group] or {}
    chosen = {str(k): v for k, v in (hydra or cfg.hydra).runtime.choices.items() if not str(k).startswith("hydra/")}
    for group in LIST_GROUPS:
        names = sorted(values[group])
        chosen[group] = names if len(names) > 1 else names[0] if names else "none"  # however it was spelled
    return values | {"choices": dict(sorted(chosen.items()))}


def option_text(group: str, name: str, folders: Sequence[str] = ()) -> str:
    """The file of an option as it is written; empty where there is none."""
    places = [*map(Path, folders), conf_folder()]
    files = [place / group / f"{name}.yaml" for place in places]
    return next((file.read_text() for file in files if file.is_file()), "")


register()
