"""What networks of other packages share: how they are fitted to images and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.model.packaged import Packaged, Through, fetched, framed, patch_size, probe, read, sizes, with_channels
from clx.model.packaged import load as load_state


class Net(nn.Module):
    """One convolution of `kernel` pixels each `stride`, a batch norm, the mean over the image, and a classifier."""

    def __init__(self, channels: int = 3, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 2, kernel, stride), nn.BatchNorm2d(2)
        self.fc: nn.Module = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


class Tiny(Packaged):
    package = "a package"

    def __init__(
        self, weights: str | None = None, input_shape: Any = (3, 8, 8), name: str = "net", native: int = 224, **net: int
    ) -> None:
        self.net, self.native, self.built = net, native, 0
        super().__init__(5, name, weights, input_shape, ["net", "network"])

    def native_size(self, name: str) -> tuple[int, int]:
        return (self.native, self.native)

    def build(self, name: str, shape: Any) -> nn.Module:
        self.built += 1
        net = Net(shape[0], **self.net)
        net.fc = Through()
        return net

    def loaded(self, body: nn.Module, name: str, weights: str, shape: Any) -> nn.Module:
        load_state(body, read(Path(weights)), weights, shape)
        return body


def saved(path: Path, **changes: Any) -> str:
    """A file of a Net's weights; None takes an entry out."""
    state = Net().state_dict() | {name.replace("__", "."): value for name, value in changes.items()}
    torch.save({name: value for name, value in state.items() if value is not None}, path / "net.pt")
    return str(path / "net.pt")


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (1, [6.0]),  # 1 + 2 + 3
        (2, [2.25, 3.75]),  # (1, 2) * 3/2 = (1.5, 3), short of 6 by 1.5: 0.75 more for each
        (3, [1.0, 2.0, 3.0]),
        (6, [0.5, 1.0, 1.5, 0.5, 1.0, 1.5]),
    ],
)
def test_channels_keep_the_response_to_equal_ones(channels: int, expected: list[float]) -> None:
    """The weights 1, 2, 3 of one pixel become `expected`, which sum to 6 as they do."""
    weight = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(with_channels(weight, channels).flatten(), torch.tensor(expected))
    assert sum(expected) == 6


def test_sizes_to_try() -> None:
    """28 and three pixels more, then 32 = 4 * 8 = 2 * 16 = 32; 28 = 2 * 14 already. 30 x 9: of 14, 42 x 14."""
    assert sizes(28, 28) == [(28, 28), (29, 29), (30, 30), (31, 31), (32, 32)]
    assert sizes(30, 9) == [(30, 9), (31, 10), (32, 11), (32, 16), (32, 32), (33, 12), (42, 14)]


def test_the_frame_is_zeros_on_both_sides() -> None:
    """Three columns more: one on the left, two on the right; one row more: at the bottom."""
    x = framed(torch.ones(1, 1, 1, 1), (3, 1))
    assert x.tolist() == [[[[0, 1, 0, 0], [0, 0, 0, 0]]]]


def test_features_and_head() -> None:
    net = Tiny()
    assert (net.feature_dim, net(torch.zeros(1, 3, 8, 8)).shape, net.padding) == (2, (1, 5), (0, 0))
    assert net.training
    assert net.body.training


@pytest.mark.parametrize(
    ("shape", "net", "padded"),
    [
        ((1, 10, 7), {"kernel": 4, "stride": 4}, (16, 8)),  # whole patches of 4: the first of `sizes` is 16 x 8
        ((1, 9, 9), {"kernel": 3, "stride": 2}, (9, 9)),  # pixels 0-2, 2-4, 4-6, 6-8: all of them
        ((1, 10, 10), {"kernel": 3, "stride": 2}, (11, 11)),  # the tenth pixel would be left out
    ],
)
def test_no_pixel_is_left_out(shape: Any, net: dict[str, int], padded: tuple[int, int]) -> None:
    model = Tiny(input_shape=shape, **net).eval()
    assert (shape[1] + model.padding[1], shape[2] + model.padding[0]) == padded
    x = torch.zeros(1, *shape, requires_grad=True)
    model.features(x).sum().backward()
    assert bool((x.grad != 0).all())


def test_at_its_own_size_the_network_is_left_as_it_is() -> None:
    """Even where it leaves out the last row and column, as squeezenet does with 224."""
    assert Tiny(input_shape=(3, 10, 10), native=10, kernel=3, stride=2).padding == (0, 0)


def test_probing_leaves_no_trace() -> None:
    body = Net()
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in body.state_dict().items()}
    assert probe(nn.Sequential(body, nn.Dropout()), (3, 8, 8), (0, 0)).isnan().any(1).all()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in body.state_dict().items())


def test_patches() -> None:
    """A first convolution that cuts the image: its stride is its kernel."""
    assert [patch_size(Net(kernel=kernel, stride=stride)) for kernel, stride in ((4, 4), (3, 2), (1, 1))] == [4, 1, 1]
    assert patch_size(nn.Linear(1, 1)) == 1


def test_images_that_the_network_cannot_take() -> None:
    """Nothing is left of 2 x 2 pixels for a kernel of 50, with the sizes that are tried (32 x 32 at most)."""
    with pytest.raises(
        ValueError,
        match=r"^input_shape \(3, 2, 2\): net cannot .*image_size=224, with benchmark\.resize=interpolate to enlarge ",
    ) as caught:
        Tiny(input_shape=(3, 2, 2), kernel=50)
    assert "\n" not in str(caught.value)


def test_a_network_with_several_outputs_in_training_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return (x, x) if self.training else x

    with pytest.raises(TypeError, match="several outputs"):
        probe(Two(), (1, 4, 4), (0, 0))


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"^name netwerk: a package has no such network; did you mean network"):
        Tiny(name="netwerk")


def test_building_with_weights_leaves_no_trace_in_the_random_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = nn.Linear(2, 5).weight
    path = saved(tmp_path)
    torch.manual_seed(0)
    assert torch.equal(Tiny(path).classifier.weight, expected)


@pytest.mark.parametrize("classes", [None, 3, 7])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state}])
def test_weights_from_a_file(wrap: Any, classes: int | None, tmp_path: Path) -> None:
    """The classifier in the file is left out, whatever its number of classes; the rest is what the file says."""
    state = Net().state_dict()
    for name in ("fc.weight", "fc.bias"):
        old = state.pop(name)
        if classes is not None:
            state[name] = old.new_zeros(classes, *old.shape[1:])
    torch.save(wrap(state), tmp_path / "net.pt")
    net = Tiny(str(tmp_path / "net.pt"))
    assert {name: value.tolist() for name, value in net.body.state_dict().items()} == {
        name: value.tolist() for name, value in state.items() if not name.startswith("fc")
    }


def test_weights_of_a_colour_net_on_gray_images(tmp_path: Path) -> None:
    path = saved(tmp_path, conv__weight=torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(2, 3, 1, 1))
    assert Tiny(path, (1, 8, 8)).body.conv.weight.flatten().tolist() == [6, 6]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"conv__weight": torch.zeros(9, 3, 1, 1)}, r"size mismatch for conv\.weight.*"),
        ({"three__weight": torch.zeros(1)}, r"three\.weight is too many"),
        ({"conv__bias": None}, r"conv\.bias is missing"),
    ],
)
def test_weights_of_another_network(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = saved(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"^weights .*net\.pt: of another network \({text}\); ") as caught:
        Tiny(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_holds_no_weights(tmp_path: Path) -> None:
    damaged = (Path(saved(tmp_path)).read_bytes())[:500]
    for content in (b"", b"not weights", b"PK\x03\x04", damaged):
        (tmp_path / "net.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"^weights .*net\.pt: not a file of names and tensors"):
            read(tmp_path / "net.pt")
    for value in (torch.zeros(2), {"a": 3}, {"state_dict": [3]}, {}):
        torch.save(value, tmp_path / "net.pt")
        with pytest.raises(ValueError, match=r"^weights .*net\.pt: not a file of names and tensors"):
            read(tmp_path / "net.pt")


def test_a_file_is_not_executed(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "net.pt")  # a whole module: unpickling it would call its class
    with pytest.raises(ValueError, match=r"not a file of names and tensors \(UnpicklingError\)"):
        read(tmp_path / "net.pt")


def test_a_download_that_fails_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        print("downloading ...")
        raise OSError("no route\nto anywhere")

    with pytest.raises(ValueError, match=r"^weights default: could not be downloaded \(OSError: no route to anywhere"):
        fetched(fail, "default")
    assert capsys.readouterr().out == ""
