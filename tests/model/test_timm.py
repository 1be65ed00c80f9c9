"""Networks of timm by their name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clx.model.timm import TimmNet

FEATURES = {"vit_tiny_patch16_224": 192, "resnet18": 512, "mobilenetv3_small_050": 1024, "mixer_s32_224": 512}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("name", FEATURES)
def test_features_and_a_step_that_moves_the_body(name: str, shape: Any) -> None:
    net = TimmNet(7, name, input_shape=shape).train()
    x = torch.randn(2, *shape)
    assert net.features(x).shape == (2, net.feature_dim) == (2, FEATURES[name])
    net(x).square().sum().backward()
    assert any(bool(p.grad.any()) for p in net.body.parameters() if p.grad is not None)


def test_a_transformer_sees_every_pixel_in_few_patches() -> None:
    """28x28 in patches of 16: a frame of zeros makes it 32x32, two by two patches."""
    net = TimmNet(2, "vit_tiny_patch16_224", input_shape=(1, 28, 28)).eval()
    assert (net.body.patch_embed.grid_size, net.padding) == ((2, 2), (4, 4))
    x = torch.randn(1, 1, 28, 28, requires_grad=True)
    net.features(x).square().sum().backward()
    assert bool((x.grad != 0).all())


def test_at_its_own_size_it_is_timms_own(tmp_path: Path) -> None:
    import timm

    theirs = timm.create_model("resnet18", num_classes=4).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    ours = TimmNet(2, "resnet18", str(tmp_path / "net.pt"), (3, 64, 64)).eval()
    theirs.reset_classifier(0)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.features(x), theirs(x))


def test_names_of_networks_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^name 'resnet188': timm has no such network; did you mean resnet18"):
        TimmNet(name="resnet188")
    with pytest.raises(ValueError, match=r"^weights a1_in2k: neither .*a1_in1k.*did you mean a1_in1k"):
        TimmNet(name="resnet18", weights="a1_in2k")

    def nobody(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("clx.model.timm._do_not_wait_for_nobody", lambda: None)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", nobody)
    for weights in ("default", "a1_in1k"):
        with pytest.raises(ValueError, match=rf"^weights {weights}: could not be downloaded \(OSError"):
            TimmNet(name="resnet18", weights=weights)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'clx\[timm\]'"):
        TimmNet()
