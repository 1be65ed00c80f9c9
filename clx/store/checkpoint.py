"""Checkpoints: plain tensors and numbers, written atomically, loaded without executing anything."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from clx.store.files import write_atomic

NAME = "state.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the state to folder/checkpoint."""
    target = folder / "checkpoint"
    target.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(state, content)
    write_atomic(target / NAME, content.getvalue())


def load(folder: Path) -> dict[str, Any] | None:
    """The state that save() wrote, on the CPU; None where there is none. Raises ValueError where it is damaged."""
    path = folder / "checkpoint" / NAME
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded ({type(error).__name__}); rerun=true starts again") from error
    assert isinstance(state, dict)
    return state
