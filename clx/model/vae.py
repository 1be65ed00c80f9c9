"""A generator of inputs: a variational autoencoder of fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """Kingma & Welling 2014, arXiv:1312.6114: standard normal codes, a normal posterior for each input, pixels in
    [0, 1] as probabilities.

    shape: of one input. hidden: widths of the encoder's hidden layers, in the decoder the other way round. z_dim:
    numbers in a code. low, high: what 0 and 1 stand for, for each of the first dimension of the shape; set_range.
    """

    def __init__(self, shape: Sequence[int], *, hidden: Sequence[int], z_dim: int) -> None:
        super().__init__()
        self.shape, self.z_dim, size = tuple(shape), z_dim, math.prod(shape)
        self.encoder = perceptron([size, *hidden, 2 * z_dim])
        self.decoder = perceptron([z_dim, *reversed(hidden), size])
        channels = (self.shape[0], *(1,) * (len(self.shape) - 1))
        self.register_buffer("low", torch.zeros(channels))
        self.register_buffer("high", torch.ones(channels))
        self.low: Tensor
        self.high: Tensor

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """low, high [C]: the least and the largest value of inputs, by the first dimension of their shape."""
        self.low.copy_(low.view_as(self.low))
        self.high.copy_(high.view_as(self.high))

    def unit(self, x: Tensor) -> Tensor:
        """Inputs [B, ...] -> [0, 1], flat [B, size]; what lies outside the range is cut."""
        return ((x - self.low) / (self.high - self.low).clamp(min=1e-6)).clamp(0, 1).flatten(1)

    def forward(self, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """unit [B, size] -> logits of its reconstruction from a code drawn for it; mean and log variance [B, z_dim]."""
        mean, log_variance = self.encoder(unit).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(z), mean, log_variance

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """So many inputs [count, ...] drawn."""
        pixels = self.decoder(torch.randn(count, self.z_dim, device=self.low.device)).sigmoid()
        return self.low + (self.high - self.low) * pixels.view(count, *self.shape)


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths with ReLU in between."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
