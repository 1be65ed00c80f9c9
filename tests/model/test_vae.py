"""The generator: its range, its shapes, and whether it learns what it is shown."""

from __future__ import annotations

import torch

from clx.loss.generative import variational_bound
from clx.model.vae import VAE


def test_range_is_mapped_to_the_unit_interval_channel_by_channel() -> None:
    """Channel 0 from -1 to 3, channel 1 from 0 to 10; beyond the range is cut."""
    vae = VAE((2, 1, 2), hidden=[4], z_dim=3)
    vae.set_range(torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 10.0]))
    x = torch.tensor([[[[-1.0, 1.0]], [[5.0, 20.0]]]])
    assert vae.unit(x).tolist() == [[0.0, 0.5, 0.5, 1.0]]


def test_samples_are_decoded_codes_in_the_range() -> None:
    """The decoder's last layer says 3/4 for every pixel, whatever the code: -1 + 4 * 3/4 = 2."""
    vae = VAE((1, 2, 3), hidden=[4, 5], z_dim=3)
    vae.set_range(torch.tensor([-1.0]), torch.tensor([3.0]))
    last = vae.decoder[-1]
    last.weight.data.zero_()
    last.bias.data.fill_(torch.tensor(3.0).log().item())
    torch.testing.assert_close(vae.sample(7), torch.full((7, 1, 2, 3), 2.0))
    assert [layer.out_features for layer in vae.encoder if hasattr(layer, "out_features")] == [4, 5, 6]
    assert [layer.out_features for layer in vae.decoder if hasattr(layer, "out_features")] == [5, 4, 6]


def test_codes_are_drawn_from_the_posterior() -> None:
    """A decoder that passes codes on: mean 2 and deviation 3 come out, within 4 standard errors of 40 000 draws."""
    vae = VAE((1,), hidden=[], z_dim=1)
    vae.encoder[0].weight.data.zero_()
    vae.encoder[0].bias.data.copy_(torch.tensor([2.0, 2 * torch.tensor(3.0).log()]))
    vae.decoder[0].weight.data.fill_(1)
    vae.decoder[0].bias.data.zero_()
    torch.manual_seed(0)
    logits, mean, log_variance = vae(torch.zeros(40_000, 1))
    assert abs(logits.mean().item() - 2) < 4 * 3 / 200
    assert abs(logits.std().item() - 3) < 4 * 3 / 280
    assert mean[0].item() == 2
    assert torch.isclose(log_variance[0].exp(), torch.tensor(9.0))


def test_it_learns_to_draw_what_it_saw() -> None:
    """Two images, each half of the data: what is drawn is close to one of them, and both are drawn."""
    torch.manual_seed(0)
    images = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    vae = VAE((4,), hidden=[32], z_dim=2)
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.01)
    for _ in range(300):
        x = images.repeat(16, 1)
        optimizer.zero_grad()
        variational_bound(*((out := vae(x))[:1]), x, *out[1:]).backward()
        optimizer.step()
    distances = torch.cdist(vae.sample(200), images)
    assert (distances.min(1).values < 0.5).float().mean() > 0.8
    assert 40 < int((distances.argmin(1) == 0).sum()) < 160
