"""When a run writes a checkpoint, signals and the end apart."""

from __future__ import annotations

import re
import time

LEAST = 30.0  # s between two checkpoints at the ends of experiences, with auto
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(epochs?|s|min|h)?")


class Due:
    """trainer.checkpoint_every: auto = at the end of an experience where 30 s have passed since the last one;
    experience = at the end of each; N, or "N epochs"; a time such as 90s, 5min or 1h.

    Raises ValueError for anything else. The clock is one that nobody can set.
    """

    def __init__(self, every: str | int) -> None:
        text = str(every).strip()
        self.at_experience = text in ("auto", "experience")
        self.seconds: float | None = LEAST if text == "auto" else None
        self.epochs: int | None = None
        if not self.at_experience:
            found = FORM.fullmatch(text)
            amount = float(found.group(1)) if found else 0.0
            unit = found.group(2) if found else None
            if unit in UNITS:
                self.seconds = amount * UNITS[unit]
            elif amount.is_integer():
                self.epochs = int(amount)
            if not self.seconds and not self.epochs:
                raise ValueError(
                    f"checkpoint_every {text}: must be auto, experience, a number of epochs such as 5, or a time such "
                    "as 90s, 5min or 1h"
                )
        self.written()

    def written(self) -> None:
        """A checkpoint has been written."""
        self._since, self._epochs = time.monotonic(), 0

    def step(self, *, ended: bool) -> bool:
        """Whether one is due after a step. ended: an epoch, with it."""
        if self.at_experience:
            return False
        self._epochs += ended
        return self._passed()

    def experience(self) -> bool:
        """Whether one is due after an experience."""
        return self._passed()

    def _passed(self) -> bool:
        if self.epochs is not None:
            return self._epochs >= self.epochs
        return self.seconds is None or time.monotonic() - self._since >= self.seconds
