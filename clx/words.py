"""The words of a command line: which of them can be read, and what is wrong where they do not compose."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.config_repository import IConfigRepository
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clx.config import LIST_GROUPS, MAY_BE_EMPTY, Mistake, RunConfig, compose, first_line, loader
from clx.store.identity import flatten, nearest

LONGEST_KEY = 200  # bytes; Hydra looks for a folder of that name
# What Hydra ends in where the words are wrong: beside exceptions of its own, whatever its parts raise.
COMPOSITION_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
NEEDED = {field.name for field in dataclasses.fields(RunConfig)} - set(MAY_BE_EMPTY)
KINDS = {"Integer": "an integer", "Float": "a number", "bool": "true or false"}
# What OmegaConf puts before the message of a resolver.
RESOLVING = re.compile(r"\b(\w+) (?:raised )?while resolving interpolation: ")


def parse(words: Sequence[str], folders: Sequence[str] = ()) -> list[Override]:
    """The words as Hydra reads them. Raises one of COMPOSITION_ERRORS."""
    return OverridesParser.create(config_loader=loader(*folders)).parse_overrides(list(words))


def readable(words: Sequence[str], folders: Sequence[str] = ()) -> list[Override]:
    """The same. Raises Mistake, naming the word that cannot be read."""
    try:
        return parse(words, folders)
    except COMPOSITION_ERRORS as error:
        wrong = next((word for word in words if not _readable(word, folders)), " ".join(words))
        raise Mistake(
            f"{wrong}: cannot be read as KEY=VALUE; quote a value with special characters: 'KEY=\"VALUE\"'"
        ) from error


def check_words(words: Sequence[str], folders: Sequence[str]) -> None:
    """Refuse what Hydra would take without a word, or stumble over. Raises Mistake, or one of COMPOSITION_ERRORS."""
    repository = loader(*folders).repository
    for override in parse(words, folders):
        key = override.key_or_group
        if not key:
            raise Mistake(f"{override.input_line}: there is no key in it; type KEY=VALUE or GROUP=OPTION")
        if len(key.encode()) > LONGEST_KEY:
            raise Mistake(f"{key}: there is no such key; it has {len(key)} characters")
        value = override.value()
        if isinstance(value, RangeSweep) and not value.step:
            raise Mistake(f"{override.input_line}: must have a step other than 0")
        if repository.group_exists(key):
            _check_choice(override, repository)
        elif override.is_delete() and key in NEEDED:
            raise Mistake(f"~{key}: a run needs this key; set it with {key}=VALUE, or leave it as it is")
        elif key == "hydra.searchpath":
            _check_places(override)


def _check_choice(override: Override, repository: IConfigRepository) -> None:
    """What stands for an option of a group is the name of one, or where several are chosen a list of names."""
    if override.is_delete() or override.is_sweep_override():
        return
    key, value, typed = override.key_or_group, override.value(), f"{override.key_or_group}={shown(override)}"
    if isinstance(value, list) and key not in LIST_GROUPS:
        raise Mistake(f"{typed}: choose one option; to run each of them: -m {key}=A,B")
    names = value if isinstance(value, list) else [value]
    for name in names:
        unsafe = not isinstance(name, str) or name.startswith("/") or ".." in name or name.endswith((".yaml", ".yml"))
        if unsafe:
            options = [o for o in repository.get_group_options(key) if not o.startswith("_")]
            raise Mistake(f"{typed}: name an option; there are {', '.join(options)}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Mistake(f"{typed}: names {twice} twice")
    if "none" in names and len(names) > 1:
        raise Mistake(f"{typed}: none stands for no option; leave it out of the list")


def _check_places(override: Override) -> None:
    value = override.value()
    for place in value if isinstance(value, list) else []:
        text = str(place)
        if not text.startswith("pkg://") and not (text.startswith("file://") and Path(text[7:]).is_dir()):
            raise Mistake(
                f"hydra.searchpath={shown(override)}: {text} must be file://FOLDER, one that exists, or pkg://"
            )


def shown(override: Override) -> str:
    """The value as it was typed."""
    return override.get_value_element_as_str()


def diagnose(words: Sequence[str], folders: Sequence[str], error: Exception) -> str:
    """What is wrong with a command line that does not compose, in one line. Raises Mistake where it cannot be read."""
    parsed = readable(words, folders)
    repository = loader(*folders).repository
    chosen_groups = [o for o in parsed if repository.group_exists(o.key_or_group)]
    for override in chosen_groups:
        wrong = _unknown_option(override, repository.get_group_options(override.key_or_group))
        if wrong:
            return wrong
    for override in chosen_groups:
        if override.is_delete():
            key = override.key_or_group
            return f"~{key}: a run needs this group; choose an option with {key}=..."
        if override.is_add():
            return f"{override.input_line}: this group has an option already; choose another without the +"
    try:
        chosen = compose([str(o.input_line) for o in chosen_groups if not o.is_sweep_override()], folders)
        known = list(flatten(OmegaConf.to_container(chosen, resolve=False)))
    except COMPOSITION_ERRORS:
        return explain(error)
    groups = [group for group in chosen.hydra.runtime.choices if not group.startswith("hydra/")]
    for override in parsed:
        wrong = None if override in chosen_groups else _unknown_key(override, known, groups)
        if wrong:
            return wrong
    return explain(error, parsed)


def _readable(word: str, folders: Sequence[str]) -> bool:
    try:
        return bool(parse([word], folders))
    except COMPOSITION_ERRORS:
        return False


def _unknown_option(override: Override, options: list[str]) -> str | None:
    if override.is_sweep_override():
        values = [str(v) for v in override.sweep_iterator()] if override.is_discrete_sweep() else []
    else:
        value = override.value()
        values = [str(v) for v in value] if isinstance(value, list) else [] if value is None else [str(value)]
    public = [o for o in options if not o.startswith("_")]
    for value in values:
        if value not in options:
            close = nearest(value, public) or f"; there are {', '.join(public)}"
            return f"{override.key_or_group}={value}: there is no such option{close}"
    return None


def _unknown_key(override: Override, known: list[str], groups: list[str]) -> str | None:
    key = override.key_or_group
    inner = any(name == key or name.startswith(f"{key}.") for name in known)
    if inner or key.startswith(("hydra.", "hydra/")):
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


def explain(error: BaseException, parsed: Sequence[Override] = ()) -> str:
    """The innermost message of a composition error, with the key and value that it is about."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = RESOLVING.sub(lambda found: _blame(found.group(1)), first_line(error), count=1)
    ambiguous = re.match(r"Ambiguous value for argument '(.*)'", text)
    if ambiguous:
        return f"{ambiguous.group(1)}: one run takes one value; add -m to run each, or write a list as [A,B]"
    present = re.match(r"Could not append to config. An item is already at '(.*)'", text)
    if present:
        return f"+{present.group(1)}: this key is there already; set it without the +"
    keys = [line.split(":", 1)[1].strip() for line in str(error).splitlines() if line.strip().startswith("full_key:")]
    if not keys or not keys[0]:
        return text
    typed = next((o for o in reversed(parsed) if o.key_or_group == keys[0]), None)
    expected = re.search(r"could not be converted to (\w+)|is not a valid (\w+)", text)
    if typed is not None and expected:
        word = expected.group(1) or expected.group(2)
        return f"{keys[0]}={shown(typed)}: must be {KINDS.get(word, word)}"
    return f"{keys[0]}: {text}"


def _blame(kind: str) -> str:
    return "its interpolation leads back to itself: " if kind == "RecursionError" else "its interpolation fails: "
