"""Networks of torchvision by their name."""

from __future__ import annotations

import re
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
    before = [p.clone() for p in net.body.parameters()]
    logits.square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert any(not torch.equal(old, new) for old, new in zip(before, net.body.parameters(), strict=True))


@pytest.fixture
def small_vit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """torchvision's vit_b_32 with one layer of 8 features."""

    def make(image_size: int = 224, **options: Any) -> torch.nn.Module:
        return torchvision.models.VisionTransformer(image_size, 32, 1, 1, 8, 8)

    make.__module__ = "torchvision.models.vision_transformer"  # where list_models looks
    monkeypatch.setitem(torchvision.models._api.BUILTIN_MODELS, "vit_b_32", make)
    return make


@pytest.mark.usefixtures("small_vit")
def test_a_transformer_sees_every_pixel() -> None:
    """vit_b_32 on 28x28 is made for 32x32, one patch; the frame is zeros."""
    net = TorchvisionNet(2, "vit_b_32", input_shape=(1, 28, 28)).eval()
    assert (net.body.image_size, net.padding) == (32, (4, 4))
    x = torch.randn(1, 1, 28, 28, requires_grad=True)
    net.features(x).square().sum().backward()
    assert bool((x.grad != 0).all())


def test_a_stem_that_would_leave_out_the_last_pixel() -> None:
    """squeezenet: kernels of 3 each 2 pixels see 27 of 28 pixels, so one is added; at 224 it is the package's own."""
    assert TorchvisionNet(2, "squeezenet1_1", input_shape=(1, 28, 28)).padding == (1, 1)
    assert TorchvisionNet(2, "squeezenet1_1", input_shape=(3, 224, 224)).padding == (0, 0)


def test_weights_from_a_file_with_one_channel(tmp_path: Path) -> None:
    """The body equals torchvision's own up to its classifier, for a gray image in three channels."""
    theirs = torchvision.models.resnet18(num_classes=4).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    ours = TorchvisionNet(2, "resnet18", str(tmp_path / "net.pt"), (1, 32, 32)).eval()
    theirs.fc = torch.nn.Identity()
    gray = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(ours.features(gray), theirs(gray.expand(2, 3, 32, 32)), atol=1e-4, rtol=1e-4)


def test_weights_with_auxiliary_classifiers(tmp_path: Path) -> None:
    """They are left out. ImageNet's normalisation becomes googlenet's own, for three channels alone."""
    torch.save(torchvision.models.googlenet(init_weights=True).state_dict(), tmp_path / "net.pt")
    for channels in (1, 3):
        net = TorchvisionNet(2, "googlenet", str(tmp_path / "net.pt"), (channels, 32, 32))
        assert net.body.transform_input == (channels == 3)
        assert net(torch.zeros(2, channels, 32, 32)).shape == (2, 2)


def test_weights_of_a_transformer_at_another_size(small_vit: Any, tmp_path: Path) -> None:
    """7 x 7 positions of 224 pixels become 2 x 2 of 64; what is constant over the positions stays so."""
    state = small_vit().state_dict()
    state["encoder.pos_embedding"][:, 1:] = torch.arange(8.0)
    torch.save(state, tmp_path / "net.pt")
    net = TorchvisionNet(2, "vit_b_32", str(tmp_path / "net.pt"), (3, 64, 64))
    positions = net.body.encoder.pos_embedding
    torch.testing.assert_close(positions[:, 1:], torch.arange(8.0).expand(1, 4, 8))


def test_weights_under_their_published_names(tmp_path: Path) -> None:
    """densenet's: norm.1 and conv.2, from before submodules lost their dots. mnasnet's carry versions."""
    for name in ("densenet121", "mnasnet0_5"):
        theirs = torchvision.models.get_model(name).state_dict()
        published = type(theirs)((re.sub(r"(layer\d+\.(?:norm|conv))([12])", r"\1.\2", k), theirs[k]) for k in theirs)
        published._metadata = theirs._metadata
        torch.save(published, tmp_path / "net.pt")
        body = TorchvisionNet(2, name, str(tmp_path / "net.pt"), (3, 32, 32)).body.state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in body.items())


def test_names_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^weights IMAGENET1K_V9: neither a file .* IMAGENET1K_V1; .*did you mean"):
        TorchvisionNet(name="resnet18", weights="IMAGENET1K_V9")

    def nobody(*args: Any, **kwargs: Any) -> Any:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", nobody)
    for weights in ("default", "IMAGENET1K_V1"):
        with pytest.raises(ValueError, match=rf"^weights {weights}: could not be downloaded \(URLError"):
            TorchvisionNet(name="resnet18", weights=weights, input_shape=(3, 32, 32))


def test_weights_by_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is downloaded is loaded as a file is, onto one channel too."""
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *args, **kwargs: dict(state))
    net = TorchvisionNet(2, "resnet18", "default", (1, 28, 28))
    torch.testing.assert_close(net.body.conv1.weight, state["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(net.body.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


@pytest.mark.parametrize(("name", "nearest"), [("resnet19", "resnet18"), ("fasterrcnn_resnet50_fpn", "")])
def test_unknown_names(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"^name {name}: torchvision has no such network.*{nearest}"):
        TorchvisionNet(name=name)


def test_images_that_are_too_small() -> None:
    with pytest.raises(ValueError, match=r"^input_shape \(1, 28, 28\): alexnet cannot .* benchmark\.image_size=224, "):
        TorchvisionNet(name="alexnet", input_shape=(1, 28, 28))
