"""Reading and writing small files so that nobody ever sees half of one."""

from __future__ import annotations

import functools
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary file beside it, flush it to the disk, rename."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """JSON that people can read, atomically."""
    write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content. Raises ValueError, naming the file, where it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """YAML in the order of the keys, atomically."""
    write_atomic(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that the file holds. Raises ValueError, naming the file, where it holds none."""
    try:
        content = _load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = str(error).splitlines()[0]
        raise ValueError(f"{path} is not YAML: {problem}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping; expected a run's config.yaml")
    return content


def read_many_yaml(path: Path) -> dict[str, Any]:
    """The same for one of many files that are largely alike: equal parts are parsed once, and shared."""
    try:
        text = path.read_text()
        blocks = [_load_block(block) for block in TOP_LEVEL_KEY.split(text)] if "&" not in text else []
    except (yaml.YAMLError, UnicodeDecodeError):
        blocks = []
    if not blocks or not all(isinstance(block, dict) for block in blocks):
        return read_yaml(path)
    return {key: value for block in blocks for key, value in block.items()}


TOP_LEVEL_KEY = re.compile(r"(?<=\n)(?=[A-Za-z_])")  # a file that write_yaml wrote is whole at each of them


@functools.lru_cache(maxsize=4096)
def _load_block(text: str) -> Any:
    return _load(text)


def _load(text: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader, the fast one where it is
