"""A backbone cut in two."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clx.model.base import Model
from clx.model.batch_renorm import renormalize
from clx.model.lenet5 import LeNet5
from clx.model.mobilenet_v1 import MobileNetV1
from clx.model.resnet32 import ResNet32
from clx.model.simple_cnn import SimpleCNN
from clx.model.simple_mlp import SimpleMLP
from clx.model.split import Split, units

NETS: dict[str, tuple[Callable[[], Model], int]] = {
    "mobilenet_v1": (lambda: MobileNetV1(latent_layer=5), 28),
    "simple_cnn": (SimpleCNN, 17),
    "resnet32": (lambda: ResNet32(blocks=1), 8),
    "lenet5": (lambda: LeNet5(in_channels=3), 11),
    "simple_mlp": (lambda: SimpleMLP(input_size=3 * 32 * 32), 4),
}


@pytest.mark.parametrize(("make", "count"), NETS.values(), ids=NETS)
def test_any_cut_gives_the_features(make: Callable[[], Model], count: int) -> None:
    model, x = make().eval(), torch.randn(2, 3, 32, 32)
    assert len(units(model)) == count
    for position in range(count - 1):
        split = Split(model, position)
        assert torch.equal(split.upper(split.lower(x)), model.features(x))
        split.check(model, (3, 32, 32))


def test_units_of_mobilenet_keep_their_numbers_wherever_it_is_cut() -> None:
    for latent_layer in (0, 13, 26):
        names = list(units(MobileNetV1(latent_layer=latent_layer)))
        assert [int(name.rpartition(".")[2]) for name in names] == list(range(28))


@pytest.mark.parametrize("at", [19, "lat_features.19", "lat_features.19.conv", "lat_features.19.bn.beta"])
def test_numbers_and_names(at: int | str) -> None:
    model = MobileNetV1()
    renormalize(model, momentum=0.01, max_r_max=1.25, max_d_max=0.5, inc_step=4.1e-5)
    split = Split(model, at)
    assert split.position == 19
    assert split.lower(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 2, 2)


def test_freezing() -> None:
    """Up to the cut, or to a unit above it where that is said; the rest goes on learning."""
    for below, frozen in (
        (-1, {"0", "1", "2", "3"}),
        (1, {"0", "1", "2", "3"}),
        (7, {"0", "1", "2", "3", "4", "5", "6"}),
    ):
        model = SimpleCNN()
        still = Split(model, 3).freeze(below)
        assert len(still) == len(frozen)
        names = {name.split(".")[1] for name, p in model.body.named_parameters(prefix="body") if not p.requires_grad}
        assert names == {n for n in frozen if list(model.body[int(n)].parameters())}


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (17, "outside 0..15"),
        (-1, "outside 0..15"),
        (16, "nothing comes after it"),
        ("body.99", r"no such layer; the nearest are .*body\.9"),
        ("classifier.0", "no such layer"),
    ],
)
def test_cuts_that_do_not_exist(at: int | str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"^latent_layer_num {at}.*{text}"):
        Split(SimpleCNN(), at)


class Crooked(Model):
    """Its features are more than its chain."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.feature_dim, self.classifier = 4, nn.Linear(4, 2)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x) + x


def test_a_net_that_is_no_chain() -> None:
    crooked = Crooked()
    with pytest.raises(ValueError, match=r"^model: Crooked cannot be split"):
        Split(crooked, 0).check(crooked, (4,))

    class Bare(Crooked):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 4)

    with pytest.raises(ValueError, match=r"^model: Bare cannot be split"):
        Split(Bare(), 0)
