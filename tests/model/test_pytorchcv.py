"""Networks of pytorchcv by their name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clx.model.pytorchcv import PytorchcvNet

FEATURES = {
    "resnet20_cifar10": 64,
    "mobilenet_w1": 1024,
    "squeezenet_v1_0": 512,  # its output is a convolution and a pooling
    "nin_cifar10": 192,  # the same, with an activation in place
    "mobilenetv3_small_w7d20": 1280,  # its classifier has two layers; the last one is taken off
    "espnetv2_wd2": 1024,  # several convolutions see the image
}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("name", FEATURES)
def test_features_and_a_step_that_moves_the_body(name: str, shape: Any) -> None:
    net = PytorchcvNet(7, name, input_shape=shape).train()
    x = torch.randn(2, *shape)
    assert net.features(x).shape == (2, net.feature_dim) == (2, FEATURES[name])
    before = [p.clone() for p in net.body.parameters()]
    net(x).square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert any(not torch.equal(old, new) for old, new in zip(before, net.body.parameters(), strict=True))


def test_at_its_own_size_the_pooling_is_the_packages_own(tmp_path: Path) -> None:
    from pytorchcv.model_provider import get_model

    theirs = get_model("resnet20_cifar10").eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    ours = PytorchcvNet(2, weights=str(tmp_path / "net.pt")).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.features(x), theirs.features(x).flatten(1))


def test_weights_on_one_channel(tmp_path: Path) -> None:
    """The features of a gray image are those of three equal channels."""
    from pytorchcv.model_provider import get_model

    torch.save(get_model("resnet20_cifar10").state_dict(), tmp_path / "net.pt")
    path = str(tmp_path / "net.pt")
    colour, gray = (PytorchcvNet(2, weights=path, input_shape=(channels, 28, 28)).eval() for channels in (3, 1))
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(gray.features(x), colour.features(x.expand(2, 3, 28, 28)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["fcn8sd_resnetd50b_voc", "msdnet22_cifar10", "prnet", "raft_small"])
def test_what_is_no_classification_network(name: str) -> None:
    """Segmentation, several classifiers, faces, optical flow."""
    with pytest.raises(ValueError, match=rf"^name {name}: not a classification network"):
        PytorchcvNet(name=name)


def test_names_of_networks_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^name resnet20_cifar11: .*did you mean resnet20_cifar10 "):
        PytorchcvNet(name="resnet20_cifar11")
    with pytest.raises(ValueError, match=r"^weights imagenet: neither a file nor one of default"):
        PytorchcvNet(weights="imagenet")

    def nobody(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("pytorchcv.models.common.model_store.get_model_file", nobody)
    with pytest.raises(ValueError, match=r"^weights default: could not be downloaded \(OSError"):
        PytorchcvNet(weights="default")


def test_weights_by_their_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pytorchcv.model_provider import get_model

    state = get_model("resnet20_cifar10").state_dict()
    torch.save(state, tmp_path / "net.pth")
    monkeypatch.setattr("pytorchcv.models.common.model_store.get_model_file", lambda name: str(tmp_path / "net.pth"))
    body = PytorchcvNet(weights="default").body.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in body.items())


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorchcv", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'clx\[pytorchcv\]'"):
        PytorchcvNet()
