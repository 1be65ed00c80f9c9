"""Class scores by a Mahalanobis distance with a covariance for each class."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clx.model.head.closed_form import ClassMeans


class FeCAMClassifier(ClassMeans):
    """score = -(u - m)' R^-1 (u - m), u and m being features and class mean, transformed, of length one.

    Goswami et al. 2023, arXiv:2309.14062, Eq. 6-9; the values are the authors' on CIFAR-100. beta -> lambda, the power
    of Tukey's transform (1 = off, as they have it on ViT features; negative features keep their sign). R: the class's
    covariance of transformed features, to which alpha1 -> gamma_1 times its mean variance is added on the diagonal and
    alpha2 -> gamma_2 times its mean covariance off it, scaled to a correlation (norm_cov). Memory: 12 K D^2 bytes.
    Differs from the authors' code: the transform is used from the first experience on.
    """

    per_class: ClassVar[tuple[str, ...]] = ("counts", "class_means", "scatter", "raw_sums", "precision", "solved")
    scatter: Tensor
    raw_sums: Tensor
    precision: Tensor
    solved: Tensor

    def __init__(
        self, in_features: int, beta: float = 0.5, alpha1: float = 1.0, alpha2: float = 1.0, norm_cov: bool = True
    ) -> None:
        super().__init__(in_features)
        if not beta > 0:
            raise ValueError(f"beta {beta} is not above 0; the paper takes 0.5, and 1 is off")
        for name, value in (("alpha1", alpha1), ("alpha2", alpha2)):
            if value < 0:
                raise ValueError(f"{name} {value} < 0; the paper takes 1, and 0 is off")
        self.beta, self.alpha1, self.alpha2, self.norm_cov = beta, alpha1, alpha2, norm_cov
        square = (0, in_features, in_features)
        self.register_buffer("scatter", torch.zeros(square, dtype=torch.float64))  # [K, D, D], transformed
        self.register_buffer("raw_sums", torch.zeros(0, in_features, dtype=torch.float64))  # [K, D], as they came
        self.register_buffer("precision", torch.zeros(square))  # [K, D, D]: R^-1
        self.register_buffer("solved", torch.zeros(0, dtype=torch.int64))  # [K] samples behind it

    def transform(self, x: Tensor) -> Tensor:
        """Tukey's ladder of powers, odd."""
        return x if self.beta == 1 else x.sign() * x.abs().pow(self.beta)

    @torch.no_grad()
    def add(self, features: Tensor, y: Tensor) -> None:
        x = features.double()
        self.raw_sums.index_add_(0, y, x)
        rows, steps = self.take(self.transform(x), y)
        for column in y.unique().tolist():
            own = torch.cat((rows[y == column], steps[column : column + 1]))
            self.scatter[column] += own.T @ own

    @torch.no_grad()
    def solve(self) -> None:
        for column in (self.counts != self.solved).nonzero().flatten().tolist():
            covariance = self.scatter[column] / max(int(self.counts[column]) - 1, 1)
            matrix = shrunk(covariance, self.alpha1, self.alpha2)
            if self.norm_cov:
                matrix = correlation(matrix)
            self.precision[column] = torch.linalg.pinv(matrix, hermitian=True)
        self.solved.copy_(self.counts)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, D] -> scores [B, K]."""
        u = normalize(self.transform(features.float()), dim=1)
        means = normalize(self.transform(self.raw_sums), dim=1).to(u)  # a mean is a sum here: only directions count
        away = u - means.unsqueeze(1)  # [K, B, D]
        distances = ((away @ self.precision) * away).sum(2).T
        return self._masked(-distances).to(features.dtype)


def shrunk(covariance: Tensor, alpha1: float, alpha2: float) -> Tensor:
    """covariance [D, D] plus alpha1 times its mean variance on the diagonal, alpha2 times its mean covariance off it.

    Goswami et al. 2023, Eq. 7; the mean covariance is that of the entries that are not zero, as the authors have it.
    """
    variances = torch.diag(covariance.diagonal())
    off = covariance - variances
    mean = off.sum() / (off != 0).sum().clamp(min=1)
    one = torch.eye(len(covariance)).to(covariance)
    return covariance + alpha1 * covariance.diagonal().mean() * one + alpha2 * mean * (1 - one)


def correlation(covariance: Tensor) -> Tensor:
    """covariance [D, D] by the deviations of both its features; features without any have 0, with themselves too.

    Goswami et al. 2023, Eq. 8.
    """
    deviations = covariance.diagonal().clamp(min=0).sqrt()
    inverse = torch.where(deviations > 0, 1 / deviations, 0.0)
    return covariance * inverse * inverse.unsqueeze(1)
