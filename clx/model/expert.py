"""The parts of a network of experts: autoencoders that know a task's inputs, and experts on its classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from clx.loss.gate import reconstruction_error


class Autoencoder(nn.Module):
    """One hidden layer of latent_dim units with ReLU, and sigmoid outputs; in_features inputs in [0, 1]."""

    def __init__(self, in_features: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(in_features, latent_dim), nn.Linear(latent_dim, in_features)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in_features] -> logits of the reconstruction, the same shape."""
        return self.decoder(torch.relu(self.encoder(x)))

    def error(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error of each sample, [B]."""
        return reconstruction_error(x, self(x).sigmoid())


class Expert(nn.Module):
    """A perceptron over features with a linear layer for the classes of one experience."""

    def __init__(self, in_features: int, hidden: Sequence[int], num_classes: int) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, in_features] -> logits [B, num_classes]."""
        return self.classifier(self.body(features))

    @torch.no_grad()
    def start_from(self, other: Expert) -> None:
        """Take all layers but the last."""
        for own, theirs in zip(self.body.parameters(), other.body.parameters(), strict=True):
            own.copy_(theirs)
