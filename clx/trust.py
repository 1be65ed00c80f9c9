"""What a configuration may name: judged by the name before anything is imported, and by what it stands for after.

Code that is trusted is trusted with everything; a configuration is not. It may have built what is there to be built,
and reaches nothing else by the names that trusted code happens to import.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from clx.config import TRUSTED, Mistake
from clx.store.identity import nearest
from clx.store.printable import printable

# Parts of the trusted packages whose classes are there to be built. torch.load, torch.hub and the like lie elsewhere.
PARTS = {
    "clx": ("benchmark", "buffer", "data", "logger", "model", "regularizer", "strategy"),
    "torch": ("nn", "optim"),
    "torchvision": ("models", "transforms"),
}
# What is built of torch is a class derived from one of these.
BASES = {
    "torch.nn.modules.module.Module",
    "torch.optim.optimizer.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
}
# Packages that nobody keeps methods or data sets in; their functions load pickles, import by name or run text.
NOTHING_TO_BUILD = {
    "IPython", "cffi", "cloudpickle", "dill", "fsspec", "hydra", "hydra_plugins", "joblib", "jsonpickle", "matplotlib",
    "mlflow", "numba", "numexpr", "numpy", "omegaconf", "pandas", "pip", "pkg_resources", "plotly", "pytest",
    "ray", "scipy", "setuptools", "sklearn", "submitit", "sympy", "wandb", "yaml",
}  # fmt: skip
RESERVED = {"_target_", "_partial_", "_convert_", "_recursive_"}
CONVERSIONS = ("none", "partial", "object", "all")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
# Where the classes of Hydra's own nodes lie, and what its logging may be made of.
OF_HYDRA = (
    "hydra._internal.core_plugins.", "hydra.experimental.callbacks.", "hydra_plugins.", "clx.sweep.",
    "optuna.samplers.",  # of the plugin hydra-optuna-sweeper
)  # fmt: skip
CALLED_BY_LOGGING = ("()", "class", "listener", "queue")  # keys whose text names what logging.config calls
OF_LOGGING = re.compile(r"logging\.(handlers\.)?[A-Z][A-Za-z]*")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
LONGEST = 80  # characters of a value in a message


def mappings(value: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping in a plain configuration with its dotted key, outer before inner."""
    if isinstance(value, Mapping):
        yield path, value
        for key, inner in value.items():
            yield from mappings(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from mappings(inner, f"{path}[{position}]")


def check_targets(config: Mapping[str, Any]) -> None:
    """Every _target_ of a resolved configuration is a public name of what may be built. Imports nothing.

    With trusted_packages the folder that clx is started in joins sys.path: a package of yours may lie there.
    """
    packages = check_packages(config["trusted_packages"])
    for path, node in mappings(config):
        _check_reserved(path, node)
        if "_target_" in node:
            check_name(f"{path}._target_", node["_target_"], packages)
    _reach(packages)


def check_packages(names: Any) -> tuple[str, ...]:
    """trusted_packages, where each is a package that can hold something to be built. Raises Mistake."""
    if not isinstance(names, list | tuple):
        raise Mistake(f"trusted_packages={printable(names, LONGEST)}: must be a list of packages, as in [mine]")
    for name in names:
        key = f"trusted_packages=[{printable(name, LONGEST)}]"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise Mistake(f"{key}: must be the name of a package such as mine or mine.methods")
        top = name.split(".")[0]
        if top in TRUSTED:
            raise Mistake(f"{key}: {top} is trusted already, with what it has to be built; leave it out")
        if _holds_nothing(top):
            raise Mistake(f"{key}: {top} holds nothing to be built; name the package that your classes lie in")
    return tuple(names)


def check_name(key: str, target: Any, packages: Sequence[str]) -> None:
    """The name lies where things are built. Raises Mistake, key and name in front."""
    shown = f"{key}={printable(target, LONGEST)}"
    if not isinstance(target, str) or not NAME.fullmatch(target) or "." not in target:
        raise Mistake(f"{shown}: must be a public dotted name such as clx.strategy.er.ER")
    top, _, rest = target.partition(".")
    if top in TRUSTED:
        if rest.split(".")[0] not in PARTS[top] or "." not in rest:
            parts = ", ".join(f"{top}.{part}" for part in PARTS[top])
            close = nearest(".".join(target.split(".")[:2]), [f"{top}.{part}" for part in PARTS[top]])
            raise Mistake(f"{shown}: of {top} only what lies in {parts} is there to be built{close}")
    elif not any(target.startswith(f"{package}.") for package in packages):
        allowed = f"only {', '.join((*TRUSTED, *packages))}"
        if _holds_nothing(top):
            raise Mistake(f"{shown}: {top} holds nothing to be built; {allowed} and other trusted_packages do")
        raise Mistake(f"{shown}: {top} is not trusted; {allowed} are. If it is yours, add trusted_packages=[{top}]")


def find(path: str, target: str) -> Any:
    """Import the target of a node, whose name was checked: a class or function of the package that it begins with.

    Raises Mistake where there is none of that name, and where the name stands for something of another package.
    """
    module, _, name = target.rpartition(".")
    top = target.split(".", maxsplit=1)[0]
    shown = f"{path}._target_={target}"
    try:
        if top == "torchvision":
            importlib.import_module("clx.runtime.torchvision")  # its one door
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Mistake(f"{shown}: {error}") from error
    except (Exception, SystemExit) as error:
        raise Mistake(
            f"{shown}: {module} cannot be imported ({type(error).__name__}: {printable(error, LONGEST)})"
        ) from error
    if not (inspect.isclass(found) or inspect.isfunction(found) or inspect.isbuiltin(found)):
        raise Mistake(f"{shown}: that is no class or function")
    origin = f"{found.__module__}.{found.__qualname__}"
    if origin.split(".", maxsplit=1)[0] != top:
        raise Mistake(f"{shown}: that is {origin}, which {module} only imports; name what is defined in {top}")
    if top in TRUSTED and not _to_be_built(top, found):
        raise Mistake(f"{shown}: that is not there to be built; of {top} name a class for a part of an experiment")
    return found


def check_hydra(cfg: DictConfig) -> None:
    """What Hydra itself would build or call by its own node is Hydra's, clx's, or of trusted_packages.

    cfg: as composed, before Hydra makes callbacks, launcher, sweeper or logging of it. Raises Mistake.
    """
    given = cfg.get("trusted_packages")
    packages = check_packages(list(given) if isinstance(given, ListConfig) else [])
    own = tuple(f"{package}." for package in packages)
    callbacks = []
    for part in ("launcher", "sweeper", "callbacks", "job_logging", "hydra_logging"):
        for path, key, value in _leaves(cfg.hydra.get(part), f"hydra.{part}"):
            _check_leaf(f"{path}.{key}", key, value, own, logging=part.endswith("_logging"))
            if part == "callbacks" and key == "_target_":
                callbacks.append((path, value))
    _reach(packages)
    for path, target in callbacks:
        find(path, target)


def _check_leaf(shown: str, key: str, value: Any, own: tuple[str, ...], *, logging: bool) -> None:
    """One value of Hydra's node. own: what names of trusted packages begin with."""
    text = value if isinstance(value, str) else ""
    if key == "_args_":
        raise Mistake(f"{shown}: values without a name are not taken; give each its key")
    if logging:
        called = key in CALLED_BY_LOGGING or text.startswith("ext://")
        allowed = bool(OF_LOGGING.fullmatch(text)) or text in STREAMS or text.removeprefix("ext://").startswith(own)
    else:
        called, allowed = key == "_target_", text.startswith((*OF_HYDRA, *own))
    if called and not allowed:
        whose = "logging's classes, sys.stdout and sys.stderr" if logging else "Hydra's classes, its plugins'"
        raise Mistake(
            f"{shown}={printable(value, LONGEST)}: only {whose} and those of trusted_packages are called here"
        )


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """(path, key, value) of every value in a node of OmegaConf, each resolved as it will be; None where it cannot."""
    if not isinstance(node, DictConfig | ListConfig):
        return
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for key in keys:
        try:
            value = node[key]
        except OmegaConfBaseException:  # what Hydra itself fills in when the job starts, such as its folder
            value = None
        if isinstance(value, DictConfig | ListConfig) and key != "_args_":
            yield from _leaves(value, f"{path}.{key}")
        else:
            yield path, str(key), value


def _check_reserved(path: str, node: Mapping[str, Any]) -> None:
    for key, value in node.items():
        if not isinstance(key, str) or not re.fullmatch(r"_.*_", key):
            continue
        shown = f"{path}.{printable(key, LONGEST)}"
        if key == "_args_":
            raise Mistake(f"{shown}: values without a name are not taken; give each its key")
        if key not in RESERVED:
            raise Mistake(f"{shown}: there is no such key; reserved are {', '.join(sorted(RESERVED))}")
        if key in ("_partial_", "_recursive_") and not isinstance(value, bool):
            raise Mistake(f"{shown}={printable(value, LONGEST)}: must be true or false")
        if key == "_convert_" and value not in CONVERSIONS:
            raise Mistake(f"{shown}={printable(value, LONGEST)}: must be one of {', '.join(CONVERSIONS)}")


def _holds_nothing(top: str) -> bool:
    return top in sys.stdlib_module_names or top in NOTHING_TO_BUILD


def _to_be_built(top: str, found: Any) -> bool:
    if inspect.isclass(found):
        return top != "torch" or any(f"{base.__module__}.{base.__qualname__}" in BASES for base in found.__mro__)
    if top != "torchvision":
        return False
    models = sys.modules["torchvision"].models
    return found.__name__ in models.list_models() and models.get_model_builder(found.__name__) is found


def _reach(packages: Sequence[str]) -> None:
    """A package of the person's own may lie in the folder that clx is started in; installed ones come first."""
    here = str(Path.cwd())
    if packages and here not in sys.path:
        sys.path.append(here)
