"""What networks of other packages share: how they are fitted to images and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.model.packaged import Packaged, Through, fetched, fit_channels, load_file, patch_size


class Net(nn.Module):
    """Two convolutions side by side see the image; then pooling and a classifier of three classes."""

    def __init__(self, patch: int = 1) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 2, patch, patch), nn.Conv2d(3, 2, patch, patch)
        self.fc = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.one(x) + self.two(x)).mean((2, 3)))


class Tiny(Packaged):
    package = "a package"

    def __init__(self, weights: str | None = None, input_shape: Any = (3, 8, 8), patch: int = 1, name: str = "net"):
        self.patch = patch
        super().__init__(5, name, weights, input_shape)

    def names(self) -> list[str]:
        return ["net", "network"]

    def build(self, name: str, weights: str | None) -> nn.Module:
        return Net(self.patch)

    def classifier_name(self, body: nn.Module) -> str:
        return "fc"


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_channels_keep_the_response_to_equal_ones(channels: int) -> None:
    """Weights (1, 2, 3) of one pixel: their sum 6 over n channels is 6 / n each, for both branches."""
    net = Net()
    with torch.no_grad():
        for conv in (net.one, net.two):
            conv.weight.copy_(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(2, 3, 1, 1))
    gray = torch.randn(2, 1, 8, 8)
    wanted = net(gray.expand(2, 3, 8, 8))
    fit_channels(net, channels, (8, 8))
    assert net.two.in_channels == channels
    if channels != 3:
        torch.testing.assert_close(net.one.weight, torch.full((2, channels, 1, 1), 6 / channels))
    torch.testing.assert_close(net(gray.expand(2, channels, 8, 8)), wanted)


def test_features_and_head() -> None:
    """The classifier is off: two features, and five classes of our own."""
    net = Tiny()
    assert isinstance(net.body.fc, Through)
    assert (net.feature_dim, net(torch.zeros(1, 3, 8, 8)).shape) == (2, (1, 5))


def test_images_are_padded_to_whole_patches_and_never_cropped() -> None:
    """10 x 7 pixels in patches of 4: 12 x 8, by 2 rows and 1 column of zeros. Every pixel changes the features."""
    net = Tiny(input_shape=(1, 10, 7), patch=4)
    assert patch_size(net.body) == 4
    x = torch.zeros(1, 1, 10, 7, requires_grad=True)
    net.features(x).sum().backward()
    assert bool((x.grad != 0).all())


def test_building_with_weights_leaves_no_trace_in_the_random_numbers(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "net.pt")
    heads = []
    for weights in (str(tmp_path / "net.pt"),) * 2:
        torch.manual_seed(0)
        heads.append(Tiny(weights).classifier.weight)
    torch.manual_seed(0)
    assert torch.equal(heads[0], nn.Linear(2, 5).weight)
    assert torch.equal(heads[0], heads[1])


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state}])
def test_weights_from_a_file(wrap: Any, tmp_path: Path) -> None:
    """A classifier of seven classes is left out; the rest is what the file says."""
    state = Net().state_dict() | {"fc.weight": torch.zeros(7, 2), "fc.bias": torch.zeros(7)}
    torch.save(wrap(state), tmp_path / "net.pt")
    net = Tiny(str(tmp_path / "net.pt"))
    assert torch.equal(net.body.one.weight, state["one.weight"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"one.weight": torch.zeros(9, 3, 1, 1)}, r"one\.weight: \(9, 3, 1, 1\) in the file, \(2, 3, 1, 1\) here"),
        ({"three.weight": torch.zeros(1)}, r"three\.weight: \(1,\) in the file, None here"),
        ({"two.bias": None}, r"two\.bias: None in the file, \(2,\) here"),
    ],
)
def test_weights_of_another_network(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    state = {name: value for name, value in (Net().state_dict() | change).items() if value is not None}
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"^weights .*net\.pt: 1 entries do not fit \({text}\)"):
        load_file(Net(), tmp_path / "net.pt", "fc")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"])
def test_a_file_that_holds_no_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"^weights .*net\.pt: not a file of weights"):
        load_file(Net(), tmp_path / "net.pt", "fc")


def test_a_download_that_fails_is_one_line() -> None:
    def fail() -> nn.Module:
        raise OSError("no route\nto anywhere")

    with pytest.raises(
        ValueError, match=r"^weights default: could not be downloaded \(OSError: no route\); "
    ) as caught:
        fetched(fail, "default")
    assert "\n" not in str(caught.value)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"^name 'netwerk': a package has no such network; did you mean network"):
        Tiny(name="netwerk")


def test_images_that_the_network_cannot_take() -> None:
    """Nothing is left of 2 x 2 pixels for a kernel of 5; 32 pixels will do."""

    class Large(Tiny):
        def build(self, name: str, weights: str | None) -> nn.Module:
            net = Net()
            net.one = net.two = nn.Conv2d(3, 2, 5)
            return net

    with pytest.raises(ValueError, match=r"^input_shape \(3, 2, 2\): net cannot .*benchmark\.image_size=32 "):
        Large(input_shape=(3, 2, 2))
