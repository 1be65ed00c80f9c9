"""Networks of torchvision by their name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch

from clx.model.torchvision import TorchvisionNet
from clx.runtime.torchvision import torchvision

FEATURES = {
    "resnet18": 512,
    "mobilenet_v3_small": 1024,  # its classifier has two layers; the last one is taken off
    "squeezenet1_1": 512,  # its classifier is a convolution
    "shufflenet_v2_x0_5": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,  # auxiliary outputs in training
}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("name", FEATURES)
def test_features_and_a_step_that_moves_the_body(name: str, shape: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = TorchvisionNet(7, name, input_shape=shape).train()
    x = torch.randn(2, *shape)
    assert net.features(x).shape == (2, net.feature_dim) == (2, FEATURES[name])
    logits = net(x)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert any(bool(p.grad.any()) for p in net.body.parameters() if p.grad is not None)


def test_a_transformer_sees_every_pixel() -> None:
    """vit_b_32 on 28x28 is made for 32x32, one patch; the frame is zeros."""
    net = TorchvisionNet(2, "vit_b_32", input_shape=(1, 28, 28)).eval()
    assert (net.body.image_size, net.padding) == (32, (4, 4))
    x = torch.randn(1, 1, 28, 28, requires_grad=True)
    net.features(x).square().sum().backward()
    assert bool((x.grad != 0).all())


def test_weights_from_a_file_with_one_channel(tmp_path: Path) -> None:
    """The body equals torchvision's own up to its classifier, for a gray image in three channels."""
    theirs = torchvision.models.resnet18(num_classes=4).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    ours = TorchvisionNet(2, "resnet18", str(tmp_path / "net.pt"), (1, 32, 32)).eval()
    theirs.fc = torch.nn.Identity()
    gray = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(ours.features(gray), theirs(gray.expand(2, 3, 32, 32)), atol=1e-4, rtol=1e-4)


def test_names_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^weights IMAGENET1K_V9: neither .* IMAGENET1K_V1; did you mean"):
        TorchvisionNet(name="resnet18", weights="IMAGENET1K_V9")

    def nobody(*args: Any, **kwargs: Any) -> Any:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", nobody)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "nowhere")
    monkeypatch.setattr("os.makedirs", lambda *args, **kwargs: None)
    for weights in ("default", "IMAGENET1K_V1"):
        with pytest.raises(ValueError, match=rf"^weights {weights}: could not be downloaded \(URLError"):
            TorchvisionNet(name="resnet18", weights=weights)


@pytest.mark.parametrize(("name", "nearest"), [("resnet19", "resnet18"), ("fasterrcnn_resnet50_fpn", "")])
def test_unknown_names(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"^name '{name}': torchvision has no such network.*{nearest}"):
        TorchvisionNet(name=name)


def test_images_that_are_too_small() -> None:
    with pytest.raises(ValueError, match=r"^input_shape \(1, 28, 28\): alexnet cannot .* benchmark\.image_size=64 "):
        TorchvisionNet(name="alexnet", input_shape=(1, 28, 28))
