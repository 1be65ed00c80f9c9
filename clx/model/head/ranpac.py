"""Ridge regression on random projections of the features."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot, relu

from clx.model.head.closed_form import ClosedFormHead

RIDGES = tuple(10.0**power for power in range(-8, 9))  # that the paper chooses from
AT_ONCE = 1024  # samples projected together


class RanPACClassifier(ClosedFormHead):
    """scores = W h, h = relu(features R) with a fixed normal R [D, M], W' = (G + ridge I)^-1 Q.

    McDonnell et al. 2023, arXiv:2307.02251, Eq. 4-6, Algorithm 1: G [M, M] is the sum of h h' and Q [M, K] that of h
    y', with y one-hot, over all samples; exact whatever the order. M -> M; ridge -> lambda, null = chosen by
    choose_ridge. Memory: 4 M^2 bytes, as much again twice while it is solved.
    """

    per_class: ClassVar[tuple[str, ...]] = ("counts", "sums", "weight")
    projection: Tensor
    gram: Tensor
    sums: Tensor
    weight: Tensor
    chosen: Tensor

    def __init__(self, in_features: int, M: int = 10000, ridge: float | None = None) -> None:  # noqa: N803 - the paper's name
        super().__init__(in_features)
        if M < 1:
            raise ValueError(f"M {M} < 1; it counts the random features, 10000 in the paper")
        if ridge is not None and not ridge > 0:
            raise ValueError(f"ridge {ridge} is not above 0; null chooses one")
        self.M, self.ridge = M, ridge
        self.register_buffer("projection", torch.randn(in_features, M))
        self.register_buffer("gram", torch.zeros(M, M))
        self.register_buffer("sums", torch.zeros(0, M))  # [K, M]: Q'
        self.register_buffer("weight", torch.zeros(0, M))  # [K, M]
        self.register_buffer("chosen", torch.tensor(1.0 if ridge is None else ridge, dtype=torch.float64))

    def project(self, features: Tensor) -> Tensor:
        """features [B, D] -> h [B, M]."""
        return relu(features.float() @ self.projection)

    @torch.no_grad()
    def add(self, features: Tensor, y: Tensor) -> None:
        for part, classes in zip(features.split(AT_ONCE), y.split(AT_ONCE), strict=True):
            h = self.project(part)
            self.gram.addmm_(h.T, h)
            self.sums.index_add_(0, classes, h)
        self.counts += torch.bincount(y, minlength=len(self.counts))

    @torch.no_grad()
    def choose_ridge(self, features: Tensor, y: Tensor, held_out: Tensor) -> None:
        """Take the ridge of RIDGES that, solved for the other samples, errs least on those at held_out [n]."""
        kept = torch.ones_like(y, dtype=torch.bool).index_fill_(0, held_out, False)
        targets = one_hot(y, len(self.counts)).double()
        errors = ridge_errors(
            self.project(features[kept]), targets[kept], self.project(features[held_out]), targets[held_out], RIDGES
        )
        self.chosen.fill_(RIDGES[int(errors.argmin())])

    @torch.no_grad()
    def solve(self) -> None:
        gram = self.gram.double()
        gram.diagonal().add_(self.chosen)
        self.weight.copy_(torch.linalg.solve(gram, self.sums.double().T).T)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, D] -> scores [B, K]."""
        return self._masked(self.project(features) @ self.weight.T).to(features.dtype)


def ridge_errors(h: Tensor, targets: Tensor, held: Tensor, held_targets: Tensor, ridges: tuple[float, ...]) -> Tensor:
    """The mean squared error on held [n, M], held_targets [n, K] of a ridge regression on h [N, M], targets [N, K],
    for each ridge; targets in float64.

    One eigendecomposition, of h'h or of h h', whichever is smaller: (h'h + r I)^-1 h' = h' (h h' + r I)^-1.
    """
    outer = len(h) < h.shape[1]
    values, vectors = torch.linalg.eigh(_square(h.T if outer else h))
    right = vectors.T @ (targets if outer else h.T.double() @ targets)
    left = (held.double() @ h.T.double() if outer else held.double()) @ vectors
    values = values.clamp(min=0).unsqueeze(1)
    return torch.stack([(left @ (right / (values + ridge)) - held_targets).square().mean() for ridge in ridges])


def _square(h: Tensor) -> Tensor:
    """h'h in float64, without all of h in float64."""
    total = torch.zeros(h.shape[1], h.shape[1], dtype=torch.float64, device=h.device)
    for part in h.split(AT_ONCE):
        wide = part.double()
        total.addmm_(wide.T, wide)
    return total
