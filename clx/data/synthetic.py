"""Images made from a seed: one random prototype for each class, plus noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from clx.data.dataset import Arrays, DataSet
from clx.runtime import seed as seeding


class Synthetic(DataSet):
    """Class prototypes drawn uniformly from [64, 192), each sample its prototype plus normal noise, as uint8.

    shape (C, H, W); train_per_class and test_per_class samples; noise: standard deviation in grey levels of
    255; seed: of prototypes and noise. A linear model separates the classes at noise 32; 128 is hard.
    """

    name = "synthetic"

    def __init__(
        self,
        shape: Sequence[int],
        *,
        num_classes: int,
        train_per_class: int,
        test_per_class: int,
        noise: float,
        seed: int,
    ) -> None:
        for key, value in (
            ("num_classes", num_classes),
            ("train_per_class", train_per_class),
            ("test_per_class", test_per_class),
        ):
            if value < 1:
                raise ValueError(f"{key} {value} < 1; give at least one")
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape {list(shape)} is not [channels, height, width], each at least 1")
        if noise < 0:
            raise ValueError(f"noise {noise} < 0; it is a standard deviation")
        self.shape = tuple(shape)
        self.num_classes = num_classes
        self.counts = (train_per_class, test_per_class)
        self.noise, self.seed = noise, seed
        self.mean, self.std = (0.5,) * shape[0], (0.25,) * shape[0]

    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        draw = seeding.generator("synthetic prototypes", self.seed)
        prototypes = torch.randint(64, 192, (self.num_classes, *self.shape), generator=draw, dtype=torch.uint8)
        train, test = (self._part(prototypes, part, count) for part, count in enumerate(self.counts))
        return train, test

    def _part(self, prototypes: torch.Tensor, part: int, count: int) -> Arrays:
        y = torch.arange(self.num_classes).repeat(count)
        draw = seeding.generator("synthetic noise", self.seed, part)
        x = torch.empty(len(y), *self.shape, dtype=torch.uint8)
        for start in range(0, len(y), 4096):  # bounds the float copy
            rows = slice(start, start + 4096)
            mean = prototypes[y[rows]].float()
            x[rows] = (
                (mean + self.noise * torch.randn(mean.shape, generator=draw)).round().clamp(0, 255).to(torch.uint8)
            )
        return Arrays(x, y)
