"""A batch that leaves one value for each channel."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from clx.model.batch_norm import bear_single_samples

ONE = {
    "1d": (nn.BatchNorm1d(3), torch.tensor([[1.0, -2.0, 3.0]])),
    "2d": (nn.BatchNorm2d(3), torch.tensor([[1.0, -2.0, 3.0]]).view(1, 3, 1, 1)),
}


@pytest.mark.parametrize(("layer", "x"), ONE.values(), ids=ONE)
def test_one_value_is_normalised_by_the_running_statistics(layer: nn.Module, x: Tensor) -> None:
    """Mean 1 and variance 4 - eps: (x - 1) / 2. torch alone refuses; nothing is learned of such a batch."""
    net = nn.Sequential(copy.deepcopy(layer))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net(x)
    bear_single_samples(net)
    net[0].running_mean.fill_(1.0)
    net[0].running_var.fill_(4.0 - net[0].eps)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.testing.assert_close(net(x), (x - 1) / 2)
    assert net[0].training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_larger_batches_are_as_before(training: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).train(training)
    net = copy.deepcopy(plain)
    bear_single_samples(net)
    bear_single_samples(net)
    x = torch.randn(2, 1, 5, 5)
    for batch in (x, x[:1], x[:1]):  # one image of 3x3 outputs has a variance
        assert torch.equal(net(batch), plain(batch))
    wanted = plain.state_dict()
    assert list(net.state_dict()) == list(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in net.state_dict().items())
    assert repr(net) == repr(plain)
    for same in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(same(x), plain(x))
        assert same(torch.zeros(1, 1, 3, 3)).shape == (1, 3, 1, 1)
