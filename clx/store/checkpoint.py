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
    torch.save(_compact(state), content)
    write_atomic(target / NAME, content.getvalue())


def _compact(value: Any) -> Any:
    """The same with tensors that own no more memory than they show: torch would write the whole of it."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.numel() * value.element_size() else value
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    return [_compact(item) for item in value] if isinstance(value, list) else value


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
