"""Networks of timm by their name."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
import torch

from clx.model.timm import TimmNet, _reachable

FEATURES = {
    "vit_tiny_patch16_224": 192,
    "resnet18": 512,
    "mobilenetv3_small_050": 1024,
    "mixer_s32_224": 512,
    "deit_tiny_distilled_patch16_224": 192,  # two classifiers
    "test_convnext": 64,  # patches of 4 and strides of 2 would leave out the last 4 of 28 pixels
}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("name", FEATURES)
def test_features_and_a_step_that_moves_the_body(name: str, shape: Any) -> None:
    net = TimmNet(7, name, input_shape=shape).train()
    x = torch.randn(2, *shape)
    assert net.features(x).shape == (2, net.feature_dim) == (2, FEATURES[name])
    before = [p.clone() for p in net.body.parameters()]
    net(x).square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert any(not torch.equal(old, new) for old, new in zip(before, net.body.parameters(), strict=True))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_convnext"])
def test_every_pixel_is_seen_in_few_patches(name: str) -> None:
    """28x28 with a frame of zeros is 32x32: for patches of 16 two by two of them."""
    net = TimmNet(2, name, input_shape=(1, 28, 28)).eval()
    assert net.padding == (4, 4)
    if name.startswith("vit"):
        assert net.body.patch_embed.grid_size == (2, 2)
    x = torch.randn(1, 1, 28, 28, requires_grad=True)
    net.features(x).square().sum().backward()
    assert bool((x.grad != 0).all())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "shvit_s1"])
def test_weights_from_a_file(name: str, channels: int, tmp_path: Path) -> None:
    """At the size of the file the features are timm's own, for a gray image in three channels too.

    deit has two classifiers; shvit's has a batch norm.
    """
    import timm

    size = {"img_size": 32} if name.endswith("224") else {}
    theirs = timm.create_model(name, num_classes=4, **size).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    ours = TimmNet(2, name, str(tmp_path / "net.pt"), (channels, 32, 32)).eval()
    theirs.reset_classifier(0)
    x = torch.randn(2, channels, 32, 32)
    torch.testing.assert_close(ours.features(x), theirs(x.expand(2, 3, 32, 32)), atol=1e-4, rtol=1e-4)
    assert "state_dict" not in ours.body.pretrained_cfg


def test_weights_of_a_transformer_at_another_size(tmp_path: Path) -> None:
    """14 x 14 positions of 224 pixels become 2 x 2; what is constant over the positions stays so. In safetensors."""
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("vit_tiny_patch16_224").state_dict()
    state["pos_embed"] = torch.arange(192.0).expand(1, 197, 192).contiguous()
    save_file(state, tmp_path / "net.safetensors")
    net = TimmNet(2, "vit_tiny_patch16_224", str(tmp_path / "net.safetensors"), (1, 28, 28))
    torch.testing.assert_close(net.body.pos_embed, torch.arange(192.0).expand(1, 5, 192), atol=1e-3, rtol=1e-4)


def test_weights_of_gray_images(tmp_path: Path) -> None:
    """From one channel to three: a third for each."""
    import timm

    theirs = timm.create_model("resnet18", in_chans=1)
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    weight = TimmNet(2, "resnet18", str(tmp_path / "net.pt"), (3, 32, 32)).body.conv1.weight
    torch.testing.assert_close(weight, (theirs.conv1.weight / 3).expand(64, 3, 7, 7))


def test_weights_of_another_network(tmp_path: Path) -> None:
    import timm

    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"^weights .*net\.pt: of another network \(Missing key") as caught:
        TimmNet(2, "resnet18", str(tmp_path / "net.pt"), (3, 32, 32))
    assert "\n" not in str(caught.value)


def test_names_of_networks() -> None:
    for name, text in (
        ("resnet188", "; did you mean resnet18"),
        ("resnet18.a1_in2k", "; did you mean resnet18"),
        ("hf-hub:a/b", ""),
    ):
        with pytest.raises(ValueError, match=rf"^name {name}: timm has no such network{text}"):
            TimmNet(name=name)
    assert TimmNet(name="resnet18.a1_in1k", input_shape=(3, 32, 32)).feature_dim == 512


def test_names_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^weights a1_in2k: neither .*a1_in1k.*did you mean a1_in1k"):
        TimmNet(name="resnet18", weights="a1_in2k")
    with pytest.raises(ValueError, match=r"^weights a1_in1k: name resnet18\.a2_in1k says a2_in1k; "):
        TimmNet(name="resnet18.a2_in1k", weights="a1_in1k")

    def nobody(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("clx.model.timm._no_waiting", contextlib.nullcontext)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", nobody)
    for weights in ("default", "a1_in1k"):
        with pytest.raises(ValueError, match=rf"^weights {weights}: could not be downloaded \(OSError"):
            TimmNet(name="resnet18", weights=weights, input_shape=(3, 32, 32))


@pytest.mark.parametrize(("name", "first"), [("resnet18", "conv1"), ("vit_tiny_patch16_224", "patch_embed.proj")])
def test_weights_by_their_name(name: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is downloaded gets into a network of another size and of one channel."""
    import timm

    state = timm.create_model(name).state_dict()
    monkeypatch.setattr("clx.model.timm._no_waiting", contextlib.nullcontext)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **kwargs: dict(state))
    tag = "default" if name == "resnet18" else "augreg_in21k_ft_in1k"
    net = TimmNet(2, name, tag, (1, 28, 28))
    torch.testing.assert_close(
        net.body.get_submodule(first).weight, state[f"{first}.weight"].sum(1, keepdim=True), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (URLError(OSError("certificate")), True),  # somebody is there
        (HTTPError("https://hub", 403, "forbidden", {}, None), True),  # type: ignore[arg-type]
        (URLError(ConnectionRefusedError()), False),
        (TimeoutError(), False),
    ],
)
def test_whether_the_hub_can_be_reached(error: Exception, answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr("clx.model.timm.urlopen", respond)
    assert _reachable("https://hub") is answer


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'clx\[timm\]'"):
        TimmNet()
