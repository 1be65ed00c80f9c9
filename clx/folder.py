"""Where a run lies: a folder that says how it differs from its benchmark and strategy alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from clx.config import Mistake, compose, plain
from clx.store.files import read_yaml
from clx.store.identity import LONGEST, difference, digest, identity, key_text

UNSAFE = re.compile(r"[^\w .,=+@()\[\]-]")  # in a folder's name; letters of any language are fine
READABLE = 20  # characters of an unsafe name that stay


def run_folder(config: Mapping[str, Any], folders: Sequence[str] = ()) -> Path:
    """Where the run of a plain configuration lies, below output_root.

    <benchmark>/<strategy>/<key>/seed=<n>, the key saying how it differs from that benchmark and strategy alone.
    """
    choices = config["choices"]
    leaves = identity(config)
    key = _key(config, tuple(folders))
    parent = Path(_safe(choices["benchmark"])) / _safe(choices["strategy"])
    name = f"seed={config['seed']}"
    unseeded = digest({k: v for k, v in leaves.items() if k != "seed"})
    hashed = key if key.endswith(unseeded) else f"{key}-{unseeded}"
    root = Path(config["output_root"]).expanduser()
    if (root / parent / hashed).is_dir() or _taken(root / parent / key, leaves):
        key = hashed
    return parent / key / name


def _safe(name: Any) -> str:
    """One part of a path, whatever the option is called: it leads nowhere else, and can be made."""
    text = str(name).replace("/", "_").replace("..", "_")
    if text and len(text.encode(errors="replace")) <= LONGEST and not UNSAFE.search(text) and text[0] not in ".~":
        return text
    prefix = UNSAFE.sub("_", text)[:READABLE].lstrip(".~")
    return f"{prefix}-{digest({'name': str(name)})}"


def _taken(folder: Path, leaves: Mapping[str, Any]) -> bool:
    """Whether runs of another configuration, the seed apart, lie in the folder: defaults may have changed since."""
    for stored in folder.glob("seed=*/config.yaml"):
        try:
            theirs = identity(read_yaml(stored))
        except (OSError, ValueError):
            continue
        return bool(set(difference(leaves, theirs)) - {"seed"})
    return False


def _key(config: Mapping[str, Any], folders: tuple[str, ...]) -> str:
    options, values = special(config, folders)
    return key_text(options, values, {k: v for k, v in identity(config).items() if k != "seed"})


def special(config: Mapping[str, Any], folders: tuple[str, ...] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """(options, values), the seed apart, in which a configuration differs from its benchmark and strategy alone."""
    choices = config["choices"]
    leaves = {k: v for k, v in identity(config).items() if k != "seed"}
    base = (f"benchmark={choices['benchmark']}", f"strategy={choices['strategy']}")
    alone = _try_compose(base, folders)
    if alone is None:
        raise Mistake(f"{' '.join(base)}: these options do not compose here; name the folder of yours with -cd")
    options = {
        group: option
        for group, option in sorted(choices.items())
        if group not in ("benchmark", "strategy", "experiment", "logger") and option != alone["choices"].get(group)
    }
    chosen = _try_compose((*base, *(f"{group}={_option(option)}" for group, option in options.items())), folders)
    if chosen is None:
        options, chosen = {}, alone
    values = difference(leaves, {k: v for k, v in identity(chosen).items() if k != "seed"})
    return options, dict(sorted(values.items()))


def _option(value: Any) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)


@functools.lru_cache(maxsize=256)
def _composed(overrides: tuple[str, ...], folders: tuple[str, ...]) -> dict[str, Any]:
    return plain(compose(overrides, folders))


def _try_compose(overrides: tuple[str, ...], folders: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        return _composed(overrides, folders)
    except Exception:  # noqa: BLE001 - a choice that does not compose on its own is described by its values instead
        return None


def own_folders(cfg: DictConfig) -> tuple[str, ...]:
    """The folders of a person's own configs (-cd, hydra.searchpath) that a configuration was composed with."""
    sources = cfg.hydra.runtime.config_sources
    return tuple(s.path for s in sources if s.schema == "file" and s.provider not in ("hydra", "main", "schema"))


def _resolve(*, _root_: DictConfig) -> str:
    return str(run_folder(plain(_root_), own_folders(_root_)))


OmegaConf.register_new_resolver("run_folder", _resolve, replace=True)
