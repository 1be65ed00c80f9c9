"""Streams in which every experience has all classes, seen through a transformation of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from clx.benchmark.stream import Benchmark, Scenario
from clx.runtime import seed as seeding


@dataclass(kw_only=True, eq=False)
class _Domains(Benchmark):
    """num_experiences domains of one data set. In domain_incremental they share their columns; in
    class_incremental and task_incremental the same class in another domain is another class."""

    scenario: Scenario = "domain_incremental"

    def partition(self) -> list[tuple[int, ...]]:
        for key in ("init_classes", "classes_per_experience", "class_order"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} {getattr(self, key)}: every experience has all classes here; set it to null")
        if self.shuffle:
            raise ValueError("shuffle true: every experience has all classes here; set it to false")
        if self.num_experiences is None:
            raise ValueError("num_experiences null: say how many domains the stream has")
        return [tuple(range(self.data.num_classes))] * self.num_experiences


@dataclass(kw_only=True, eq=False)
class Permuted(_Domains):
    """A random permutation of the pixels in each experience, the first included. Goodfellow et al. 2013,
    arXiv:1312.6211; as in Buzzega et al. 2020 (arXiv:2004.07211) where num_experiences is 20."""

    @cached_property
    def permutations(self) -> list[Tensor]:
        """One [H * W] permutation for each experience, the same for all channels."""
        pixels = self.data.shape[1] * self.data.shape[2]
        draws = [seeding.generator("permutation", self.order_seed, i) for i in range(len(self.groups))]
        return [torch.randperm(pixels, generator=draw) for draw in draws]

    def view(self, experience: int, x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, self.permutations[experience]].view_as(x)

    def describe(self) -> dict[str, object]:
        return super().describe() | {"permutations": [p.tolist() for p in self.permutations]}


@dataclass(kw_only=True, eq=False)
class Rotated(_Domains):
    """A rotation by an angle of its own, uniform in [0, 180) degrees, in each experience. Lopez-Paz & Ranzato
    2017, arXiv:1706.08840; angles as in Buzzega et al. 2020. Bilinear, black outside the image."""

    @cached_property
    def angles(self) -> list[float]:
        """Degrees, counter-clockwise."""
        draw = seeding.generator("rotation", self.order_seed)
        return (torch.rand(len(self.groups), generator=draw, dtype=torch.float64) * 180).tolist()

    def view(self, experience: int, x: Tensor) -> Tensor:
        angle = math.radians(self.angles[experience])
        cos, sin = math.cos(angle), math.sin(angle)
        ratio = x.shape[2] / x.shape[3]  # of height to width: the grid's units are half sides
        theta = torch.tensor([[cos, -sin * ratio, 0.0], [sin / ratio, cos, 0.0]])
        out = torch.empty_like(x)
        for start in range(0, len(x), 4096):  # bounds the float copy
            part = x[start : start + 4096].float()
            grid = functional.affine_grid(theta.expand(len(part), 2, 3), list(part.shape), align_corners=False)
            turned = functional.grid_sample(part, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            out[start : start + 4096] = turned.round().clamp(0, 255).to(torch.uint8)
        return out

    def describe(self) -> dict[str, object]:
        return super().describe() | {"angles": self.angles}
