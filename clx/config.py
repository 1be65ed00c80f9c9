"""Composing a configuration and building what it names. Only this layer knows Hydra and OmegaConf."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf

if TYPE_CHECKING:
    from clx.benchmark.stream import Benchmark
    from clx.loop.trainer import Trainer

LIST_GROUPS = ("regularizer", "logger")  # groups of which several options can be chosen at once
MAY_BE_EMPTY = (*LIST_GROUPS, "buffer", "scheduler")  # groups with an option `none`; `regularizer=[]` composes to None
TRUSTED = ("clx", "torch", "torchvision")


class Mistake(Exception):
    """Something that the person who typed the command can mend; its text is what they read."""


@dataclass
class TrainerConfig:
    """Types of the keys under `trainer`; their values are in conf/config.yaml."""

    epochs: int = MISSING
    batch_size: int = MISSING
    eval_batch_size: int = MISSING
    eval_every: int = MISSING
    eval_steps: int | None = MISSING
    checkpoint_every: int = MISSING
    device: str = MISSING
    precision: str = MISSING
    num_threads: int | None = MISSING
    optimizer_state: str = MISSING
    max_steps: int | None = MISSING
    clip_norm: float | None = MISSING


@dataclass
class RunConfig:
    """Types of the top level; the groups' own keys are checked against the classes that they name."""

    seed: int = MISSING
    name: str | None = MISSING
    tags: list[str] = field(default_factory=list)
    data_root: str = MISSING
    output_root: str = MISSING
    rerun: bool = MISSING
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
    OmegaConf.register_new_resolver("unless", lambda value, other: value if other is None else None, replace=True)


@functools.cache
def loader(*folders: str) -> ConfigLoaderImpl:
    """A loader over conf/ and, before it, folders of a person's own."""
    Plugins.instance()
    path = create_config_search_path(str(conf_folder()))
    for folder in folders:
        path.prepend(provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)


def compose(overrides: Sequence[str], folders: Sequence[str] = ()) -> DictConfig:
    """The configuration with Hydra's node, as Hydra composes it. Raises Hydra's own exceptions."""
    return loader(*folders).load_configuration("config", list(overrides), run_mode=RunMode.RUN, from_shell=False)


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


def make_data(config: Mapping[str, Any]) -> Any:
    """The data set of a configuration's benchmark, nothing else."""
    return _make("benchmark.data", config["benchmark"]["data"])


# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """What a configuration makes; no data has been read yet."""

    benchmark: Benchmark
    trainer: Trainer


def build(config: Mapping[str, Any]) -> Built:
    """Instantiate a checked configuration: the one place where the targets it names are called.

    Raises Mistake where a class refuses a value, or strategy and benchmark do not fit.
    """
    from clx.loop.trainer import Trainer  # noqa: PLC0415 - torch is imported when something is built, not before
    from clx.runtime import seed as seeding  # noqa: PLC0415

    seeding.seed_everything(config["seed"])
    root = str(Path(config["data_root"]).expanduser())
    benchmark = _make("benchmark", config["benchmark"], root=root)
    model = _build_model(config["model"], benchmark.input_shape, benchmark.num_classes)
    buffer = _make("buffer", config["buffer"], seed=config["seed"]) if config["buffer"].get("_target_") else None
    strategy = _make(
        "strategy",
        _without_owned(config["strategy"]),
        model=model,
        buffer=buffer,
        num_classes=benchmark.num_classes,
        seed=config["seed"],
    )
    reason = strategy.conflict(benchmark)
    if reason:
        raise Conflict(f"strategy={config['choices']['strategy']} on {config['choices']['benchmark']}: {reason}")
    regularizers = {
        name: _make(f"regularizer.{name}", node, seed=config["seed"]) for name, node in config["regularizer"].items()
    }
    options = {k: v for k, v in config["trainer"].items() if k not in ("checkpoint_every", "num_threads")}
    options["eval_every"] = max(options["eval_every"], 0)  # -1 is the run's: it evaluates at the end
    optimizer, scheduler = _optimization(config)
    try:
        trainer = Trainer(
            strategy, optimizer, scheduler=scheduler, regularizers=regularizers, seed=config["seed"], **options
        )
    except ValueError as error:
        raise Mistake(f"trainer.{error}") from error
    return Built(benchmark, trainer)


def loggers(config: Mapping[str, Any]) -> list[Any]:
    """The loggers of a configuration."""
    return [_make(f"logger.{name}", node) for name, node in config["logger"].items()]


class Occupied(Mistake):
    """The folder belongs to somebody else: another process, or another run. Nothing is written there."""


class Conflict(Mistake):
    """Parts that are right each on their own, but not together; a sweep records such a job as skipped."""


def _build_model(node: Mapping[str, Any], input_shape: tuple[int, int, int], num_classes: int) -> Any:
    channels, height, width = input_shape
    backbone = {key: value for key, value in node.items() if key != "head"}
    model = _make(
        "model",
        backbone,
        input_shape=input_shape,
        input_size=math.prod(input_shape),
        in_channels=channels,
        image_size=min(height, width),
    )
    if node.get("head"):
        model.classifier = _make("model.head", node["head"], in_features=model.feature_dim, num_classes=num_classes)
    return model


def _without_owned(node: Mapping[str, Any]) -> dict[str, Any]:
    """The strategy's node without the values that it only sets elsewhere."""
    from clx.validation import find, owned_keys  # noqa: PLC0415 - validation imports this module

    target = find("strategy", node["_target_"])
    foreign = owned_keys(target).keys() - inspect.signature(target).parameters.keys()
    return {key: value for key, value in node.items() if key not in foreign}


def _optimization(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Partials for optimizer and scheduler, tried on one number so that bad values show before training."""
    import torch  # noqa: PLC0415

    optimizer = _partial(config["optimizer"])
    trial = _call("optimizer", config["optimizer"], optimizer, [torch.nn.Parameter(torch.zeros(1))])
    if not config["scheduler"].get("_target_"):
        return optimizer, None
    scheduler = _partial(config["scheduler"])
    _call("scheduler", config["scheduler"], scheduler, trial, T_max=1, epochs=1, steps=1)
    return optimizer, scheduler


def _partial(node: Mapping[str, Any]) -> Any:
    from hydra.utils import instantiate  # noqa: PLC0415 - it imports torch's targets

    return instantiate(dict(node) | {"_partial_": True, "_convert_": "all"})


def _make(path: str, node: Mapping[str, Any], **offers: Any) -> Any:
    """The object of a node. Live objects go through the partial, so that OmegaConf leaves them alone."""
    return _call(path, node, _try(path, node, lambda: _partial(node)), **offers)


def _call(path: str, node: Mapping[str, Any], function: Any, *args: Any, **offers: Any) -> Any:
    from clx.runtime.call import call_offering  # noqa: PLC0415

    return _try(path, node, lambda: call_offering(function, *args, **offers))


def _try(path: str, node: Mapping[str, Any], function: Any) -> Any:
    try:
        return function()
    except Exception as error:
        wrapped = isinstance(error, InstantiationException) and error.__cause__ is not None
        cause = error.__cause__ if wrapped else error  # Hydra wraps what a nested target raises
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or not isinstance(cause, ValueError | TypeError | ImportError):
            raise
        raise Mistake(_with_key(path, node, str(cause))) from error


def _with_key(path: str, node: Mapping[str, Any], text: str) -> str:
    """The message with the full key in front; by convention it begins with the parameter that it is about."""
    first = text.split(" ", 1)[0]
    key = next((k for k in _keys(node) if k.rsplit(".", 1)[-1] == first), None)
    return f"{path}.{key.removesuffix(first)}{text}" if key else f"{path}: {text}"


def _keys(node: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in node.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


register()
