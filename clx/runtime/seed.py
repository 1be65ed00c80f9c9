"""Random generators that depend on what they are for, not on when they are made."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive(*key: object) -> int:
    """A seed in [0, 2**63) that depends on every part of the key, the same on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by the key: `generator(seed, experience, phase, epoch)` replays any epoch."""
    return torch.Generator().manual_seed(derive(*key))


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator that others draw from
    torch.manual_seed(seed)


def state() -> dict[str, torch.Tensor]:
    """The global generators' state as tensors, for a checkpoint."""
    kind, words, position, gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - the global generator that others draw from
    assert kind == "MT19937"
    version, internal, following = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(words, dtype=np.int64)),
        "numpy_rest": torch.tensor([position, gauss, cached], dtype=torch.float64),
        "python": torch.tensor([version, *internal], dtype=torch.int64),
        "python_rest": torch.tensor([] if following is None else [following], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        states |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def load_state(states: dict[str, torch.Tensor]) -> None:
    """Put the global generators back where state() found them."""
    torch.set_rng_state(states["torch"])
    position, gauss, cached = states["numpy_rest"].tolist()
    np.random.set_state(("MT19937", states["numpy"].numpy().astype(np.uint32), int(position), int(gauss), cached))  # noqa: NPY002 - the global generator that others draw from
    version, *internal = states["python"].tolist()
    following = states["python_rest"].tolist()
    random.setstate((version, tuple(internal), following[0] if following else None))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            if f"cuda{i}" in states:
                torch.cuda.set_rng_state(states[f"cuda{i}"], i)
