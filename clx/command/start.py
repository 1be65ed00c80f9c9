"""clx --from FILE [KEY=VALUE...]: start a run from a stored config.yaml alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clx.app import execute
from clx.config import MAY_BE_EMPTY, Mistake, RunConfig
from clx.folder import run_folder
from clx.jobs import Job, check_job
from clx.store.files import read_yaml
from clx.store.identity import flatten, nearest


def main(arguments: Sequence[str]) -> int:
    """Run the configuration of a file, with single values changed."""
    if not arguments:
        raise Mistake("--from: give the config.yaml of a run")
    config = stored_config(Path(arguments[0]), arguments[1:])
    folder = Path(config["output_root"]).expanduser() / run_folder(config)
    check_job(Job(list(arguments[1:]), config, folder))
    return execute(config, folder)


def stored_config(file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """A stored configuration with values changed as typed. Raises Mistake.

    The trust that a file asks for is not given: packages must be named on the command line again.
    """
    try:
        stored = read_yaml(file)
    except (OSError, ValueError) as error:
        raise Mistake(f"--from {file}: {error}") from error
    choices = stored.get("choices")
    if not isinstance(choices, Mapping) or not {"benchmark", "strategy"} <= set(choices):
        raise Mistake(f"--from {file}: no choices of benchmark and strategy in it; expected a run's config.yaml")
    asked, stored["trusted_packages"] = stored.get("trusted_packages") or [], []
    config = _changed({key: value for key, value in stored.items() if key != "choices"}, overrides)
    if set(asked) - set(config["trusted_packages"]):
        names = ",".join(asked)
        raise Mistake(f"{file} wants to run code of {names}; if you trust it, add trusted_packages=[{names}]")
    return config | {"choices": dict(choices)}


def _changed(stored: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        known = flatten(stored)
        cfg = OmegaConf.merge(OmegaConf.structured(RunConfig), stored)
        for override in parsed:
            key = override.key_or_group
            node = any(name.startswith(f"{key}.") for name in known)
            if node or (key not in known and not override.is_add()):
                problem = "a group cannot be chosen anew with --from; change single values" if node else "no such key"
                raise Mistake(f"{key}: {problem}{nearest(key, list(known)) if not node else ''}")
            OmegaConf.update(cfg, key, override.value(), force_add=override.is_add())
        values: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise Mistake(str(error).splitlines()[0]) from error
    for group in MAY_BE_EMPTY:
        values[group] = values[group] or {}
    assert isinstance(values, dict)
    return values
