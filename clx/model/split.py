"""A backbone as a chain of units, cut in two at any of them."""

from __future__ import annotations

import difflib

import torch
from torch import Tensor, nn

from clx.model.base import Model


def units(model: Model) -> dict[str, nn.Module]:
    """The modules that features() runs one after the other, by name: the parts of the model's Sequential children."""
    chains = [(name, child) for name, child in model.named_children() if isinstance(child, nn.Sequential)]
    return {
        f"{name}.{part}": module
        for name, chain in chains
        if chain is not model.classifier
        for part, module in chain.named_children()
    }


class Split:
    """The units up to `at` (lower) and those after it (upper); the model's own modules, nothing is copied.

    at: the number of a unit, or its name, or the name of a module or parameter inside it. Raises ValueError where
    the model has no such unit, or is no chain.
    """

    def __init__(self, model: Model, at: int | str) -> None:
        chain = units(model)
        if len(chain) < 2:
            raise ValueError(f"model: {type(model).__name__} cannot be split; its backbone is no chain of modules")
        self.names, self.chain = list(chain), list(chain.values())
        self.position = self.find(model, at)
        if self.position >= len(chain) - 1:
            raise ValueError(f"latent_layer_num {at}: nothing comes after it; the last unit is {self.names[-1]}")

    def find(self, model: Model, at: int | str) -> int:
        """The number of a unit by its number or name."""
        if isinstance(at, int):
            if not 0 <= at < len(self.chain):
                raise ValueError(f"latent_layer_num {at} is outside 0..{len(self.chain) - 2}, the units of this model")
            return at
        inside = {name for name, _ in (*model.named_modules(), *model.named_parameters())}
        for position, name in enumerate(self.names):
            if at == name or (at in inside and at.startswith(f"{name}.")):
                return position
        within = {name for name in inside if name.startswith(tuple(f"{unit}." for unit in self.names))}
        known = sorted({*self.names, *within})
        nearest = difflib.get_close_matches(at, known, n=3, cutoff=0.0)
        raise ValueError(f"latent_layer_num {at}: this model has no such layer; the nearest are {', '.join(nearest)}")

    def lower(self, x: Tensor) -> Tensor:
        """x [B, ...] -> latents, the output of the unit."""
        for module in self.chain[: self.position + 1]:
            x = module(x)
        return x

    def upper(self, latents: Tensor) -> Tensor:
        """latents -> features [B, D]."""
        for module in self.chain[self.position + 1 :]:
            latents = module(latents)
        return latents

    def freeze(self, below: int = -1) -> list[nn.Module]:
        """No gradient up to the cut, and in every unit before number `below`; returns these units."""
        frozen = self.chain[: max(self.position + 1, below)]
        for module in frozen:
            module.requires_grad_(False)
        return frozen

    @torch.no_grad()
    def check(self, model: Model, shape: tuple[int, ...]) -> None:
        """Raise ValueError where the two halves are not the model's features, of images of that shape."""
        training = model.training
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(2, *shape, generator=draw).to(next(model.parameters()).device)
        model.eval()
        try:
            same = torch.equal(self.upper(self.lower(x)), model.features(x))
        except (RuntimeError, TypeError, ValueError):
            same = False
        model.train(training)
        if not same:
            raise ValueError(f"model: {type(model).__name__} cannot be split; its backbone is no chain of modules")
