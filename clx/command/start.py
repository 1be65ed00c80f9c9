"""clx --from FILE [KEY=VALUE...]: start a run from a stored config.yaml alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from clx.app import execute
from clx.config import MAY_BE_EMPTY, Mistake, RunConfig
from clx.folder import run_folder
from clx.jobs import Job, check_job
from clx.store.files import read_yaml
from clx.store.identity import flatten, nearest
from clx.store.printable import printable
from clx.trust import LONGEST, check_packages
from clx.words import COMPOSITION_ERRORS, explain, readable

# Names of options and their groups; the latter are composed again as KEY=VALUE, and Hydra's own keys are none.
OPTION = re.compile(r"[\w+=@-][\w+=@. ()-]{0,99}(/[\w+=@-][\w+=@. ()-]{0,99}){0,3}")
GROUP = re.compile(r"(?!hydra\b)\w{1,60}([/@.]\w{1,60}){0,5}")


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
    choices = _choices(file, stored.get("choices"))
    asked, stored["trusted_packages"] = check_packages(stored.get("trusted_packages") or []), []
    config = _changed({key: value for key, value in stored.items() if key != "choices"}, overrides)
    given = check_packages(config["trusted_packages"])
    if set(asked) - set(given):
        names = ",".join(asked)
        raise Mistake(f"{file} wants to run code of {names}; if you trust it, add trusted_packages=[{names}]")
    if given and Path.cwd().is_relative_to(file.absolute().parent.resolve()):
        raise Mistake(
            f"trusted_packages=[{','.join(given)}]: code that lies in {Path.cwd()} came with {file.name} and would be "
            "run too; start clx in another folder"
        )
    return config | {"choices": choices}


def _choices(file: Path, found: Any) -> dict[str, Any]:
    """The names of the chosen options, which become paths and are composed again. Raises Mistake."""
    if not isinstance(found, Mapping) or not {"benchmark", "strategy"} <= set(found):
        raise Mistake(f"--from {file}: no choices of benchmark and strategy in it; expected a run's config.yaml")
    for group, option in found.items():
        several = option if isinstance(option, list) else [] if option is None else [option]
        named = isinstance(group, str) and bool(GROUP.fullmatch(group))
        named = named and all(isinstance(name, str) and OPTION.fullmatch(name) for name in several)
        if not named or (group in ("benchmark", "strategy") and not isinstance(option, str)):
            shown = f"choices.{printable(group, LONGEST)}={printable(option, LONGEST)}"
            raise Mistake(f"--from {file}: {shown}: must be the name of an option")
    return dict(found)


def _changed(stored: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    parsed = readable(overrides)
    try:
        known = flatten(stored)
        cfg = OmegaConf.merge(OmegaConf.structured(RunConfig), stored)
        for override in parsed:
            key = override.key_or_group
            if override.is_sweep_override():
                raise Mistake(f"{override.input_line}: one run takes one value; write a list as [A,B]")
            node = any(name.startswith(f"{key}.") for name in known)
            if node or (key not in known and not override.is_add()):
                problem = "a group cannot be chosen anew with --from; change single values" if node else "no such key"
                raise Mistake(f"{key}: {problem}{nearest(key, list(known)) if not node else ''}")
            OmegaConf.update(cfg, key, override.value(), force_add=override.is_add())
        values: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except COMPOSITION_ERRORS as error:
        raise Mistake(explain(error, parsed)) from error
    for group in MAY_BE_EMPTY:
        values[group] = values[group] or {}
        if not isinstance(values[group], Mapping):
            raise Mistake(
                f"{group}={printable(values[group], LONGEST)}: must be a mapping, the option's keys and values"
            )
    assert isinstance(values, dict)
    return values
