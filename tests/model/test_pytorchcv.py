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
}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("name", FEATURES)
def test_features_and_a_step_that_moves_the_body(name: str, shape: Any) -> None:
    net = PytorchcvNet(7, name, input_shape=shape).train()
    x = torch.randn(2, *shape)
    assert net.features(x).shape == (2, net.feature_dim) == (2, FEATURES[name])
    net(x).square().sum().backward()
    assert any(bool(p.grad.any()) for p in net.body.parameters() if p.grad is not None)


def test_at_its_own_size_the_pooling_is_the_packages_own(tmp_path: Path) -> None:
    from pytorchcv.model_provider import get_model

    theirs = get_model("resnet20_cifar10").eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    ours = PytorchcvNet(2, weights=str(tmp_path / "net.pt")).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.features(x), theirs.features(x).flatten(1))


def test_names_of_networks_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^name 'resnet20_cifar11': .*did you mean resnet20_cifar10 "):
        PytorchcvNet(name="resnet20_cifar11")
    with pytest.raises(ValueError, match=r"^name 'fcn8sd_resnetd50b_voc': not a classification network"):
        PytorchcvNet(name="fcn8sd_resnetd50b_voc")
    with pytest.raises(ValueError, match=r"^weights imagenet: neither a file nor one of default"):
        PytorchcvNet(weights="imagenet")

    def nobody(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("clx.model.pytorchcv._provider", lambda: Provider(nobody))
    with pytest.raises(ValueError, match=r"^weights default: could not be downloaded \(OSError"):
        PytorchcvNet(weights="default")


class Provider:
    """pytorchcv without a network."""

    _models = ("resnet20_cifar10",)

    def __init__(self, get_model: Any) -> None:
        self.get_model = get_model


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorchcv", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'clx\[pytorchcv\]'"):
        PytorchcvNet()
