"""What was read of many runs before, kept in one file; the folders stay the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clx.store.files import write_atomic

NAME = ".index.json"
FEWEST = 50  # runs; fewer are read as fast from their folders
SCHEMA = 1


class Index:
    """Remembers, for the runs below a folder, what their files held and when those were last written.

    A run whose files have another size or time is read anew; an index that cannot be read or written is done without.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / NAME
        self.root = root
        self.known: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}
        self.changed = False
        try:
            content = json.loads(self.path.read_bytes())
            if content["schema"] == SCHEMA:
                self.known = dict(content["runs"])
        except (OSError, ValueError, TypeError, KeyError):
            pass

    def get(self, folder: Path, signature: list[int]) -> Any:
        """What put() kept for the folder if its files are still the same, else None."""
        entry = self.known.get(self._key(folder))
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] != signature:
            return None
        self.seen[self._key(folder)] = entry
        return entry[1]

    def put(self, folder: Path, signature: list[int], content: Any) -> None:
        """Keep what the files of that signature hold."""
        self.seen[self._key(folder)] = [signature, content]
        self.changed = True

    def save(self) -> None:
        """Write what was seen, runs that are gone left out."""
        if len(self.seen) < FEWEST or not (self.changed or len(self.seen) < len(self.known)):
            return
        try:
            write_atomic(self.path, json.dumps({"schema": SCHEMA, "runs": self.seen}).encode())
        except OSError:
            return

    def _key(self, folder: Path) -> str:
        return str(folder.relative_to(self.root))


def signature(*files: Path) -> list[int]:
    """Time and size of each file; [] where one is missing."""
    try:
        stats = [file.stat() for file in files]
    except OSError:
        return []
    return [number for stat in stats for number in (stat.st_mtime_ns, stat.st_size)]
