"""Linear discriminant analysis, one sample or a million at a time."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from clx.model.head.closed_form import ClassMeans


class SLDAClassifier(ClassMeans):
    """Class means and one covariance for all: score = (L m)' x - m' L m / 2 with L = ((1 - e) S + e I)^-1.

    Hayes & Kanan 2020, arXiv:1909.01520, Sec. 3; shrinkage -> epsilon, in (0, 1]; at 1 it is the nearest class mean.
    S is the scatter around the classes' means, by the number of samples.
    Differs from the paper: a sample d away from the mean of the n_y before it in its class adds n_y / (n_y + 1) d d' to
    the scatter, which is exact, so the order does not matter; the paper has t / (t + 1), of all t samples before it.
    Nothing initialises S.
    """

    per_class: ClassVar[tuple[str, ...]] = ("counts", "class_means", "weight", "bias")
    scatter: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, in_features: int, shrinkage: float = 1e-4) -> None:
        super().__init__(in_features)
        if not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage {shrinkage} is outside (0, 1]; the paper takes 0.0001")
        self.shrinkage = shrinkage
        self.register_buffer("scatter", torch.zeros(in_features, in_features, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(0, in_features))  # [K, D]
        self.register_buffer("bias", torch.zeros(0))  # [K]

    @torch.no_grad()
    def add(self, features: Tensor, y: Tensor) -> None:
        rows, steps = self.take(features.double(), y)
        self.scatter += rows.T @ rows + steps.T @ steps

    @torch.no_grad()
    def solve(self) -> None:
        covariance = (1 - self.shrinkage) * self.scatter / self.counts.sum().clamp(min=1)
        covariance.diagonal().add_(self.shrinkage)
        weight = torch.linalg.solve(covariance, self.class_means.T).T
        self.weight.copy_(weight)
        self.bias.copy_(-(weight * self.class_means).sum(1) / 2)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, D] -> scores [B, K]."""
        scores = features.float() @ self.weight.T + self.bias
        return self._masked(scores).to(features.dtype)
