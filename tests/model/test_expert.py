"""Autoencoders and experts."""

from __future__ import annotations

import pytest
import torch

from clx.model.expert import Autoencoder, Expert


def test_autoencoder_by_hand() -> None:
    """One input, one unit: relu(2 * .5) = 1, logit 0, reconstruction 1/2, error (.5 - .5)^2; of input 1: logit 1."""
    net = Autoencoder(1, 1)
    for layer, weight, bias in ((net.encoder, 2.0, 0.0), (net.decoder, 1.0, -1.0)):
        torch.nn.init.constant_(layer.weight, weight)
        torch.nn.init.constant_(layer.bias, bias)
    x = torch.tensor([[0.5], [1.0]])
    assert net(x).flatten().tolist() == pytest.approx([0.0, 1.0])
    assert net.error(x).tolist() == pytest.approx([0.0, (1 - 1 / (1 + 2.718281828**-1)) ** 2], abs=1e-6)


@pytest.mark.parametrize("hidden", [[], [5], [5, 4]])
def test_an_expert_starts_from_another_but_for_its_last_layer(hidden: list[int]) -> None:
    first, second = Expert(3, hidden, 2), Expert(3, hidden, 4)
    kept = second.classifier.weight.detach().clone()
    second.start_from(first)
    x = torch.randn(6, 3)
    assert torch.equal(second.body(x), first.body(x))
    assert torch.equal(second.classifier.weight, kept)
    assert second(x).shape == (6, 4)
    assert all(a is not b for a, b in zip(first.body.parameters(), second.body.parameters(), strict=True))
