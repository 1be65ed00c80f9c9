"""Images made from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from clx.data.dataset import Arrays
from clx.data.synthetic import Synthetic

SETTINGS: dict[str, Any] = {
    "shape": [3, 4, 5],
    "num_classes": 4,
    "train_per_class": 6,
    "test_per_class": 2,
    "noise": 64.0,
    "seed": 0,
}


def load(**changes: Any) -> tuple[Arrays, Arrays]:
    return Synthetic(**SETTINGS | changes).load(Path("nowhere"))


def test_shapes() -> None:
    for part, count in zip(load(), (6, 2), strict=True):
        assert part.x.shape == (4 * count, 3, 4, 5)
        assert (part.x.dtype, part.y.dtype) == (torch.uint8, torch.int64)
        assert part.y.bincount().tolist() == [count] * 4
    data = Synthetic(**SETTINGS)
    assert (data.shape, len(data.mean), len(data.std)) == ((3, 4, 5), 3, 3)


def test_the_seed_decides_everything() -> None:
    torch.manual_seed(0)
    first = load()
    torch.manual_seed(1)
    again, other = load(), load(seed=1)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
        assert not torch.equal(a.x, c.x)


def test_without_noise_a_sample_is_its_prototype() -> None:
    """Prototypes lie in [64, 192). 1,500 samples of each of 4 classes: more than the 4,096 that are made at once."""
    train, test = load(noise=0.0, train_per_class=1500)
    prototypes = train.x[:4][train.y[:4].argsort()]
    assert prototypes.unique(dim=0).shape[0] == 4
    assert 64 <= prototypes.min() <= prototypes.max() < 192
    for part in (train, test):
        assert torch.equal(part.x, prototypes[part.y])


def test_noise_is_in_grey_levels() -> None:
    """2,000 samples x 60 pixels x 4 classes: the deviation is known to about 0.02. 10 levels are never clamped here.

    Rounding to whole levels adds 1/12 to the variance: sqrt(100 + 1/12) = 10.004.
    """
    train, _ = load(noise=10.0, train_per_class=2000)
    noise = torch.cat([part - part.mean(0) for part in (train.x[train.y == c].double() for c in range(4))])
    assert noise.std().item() == pytest.approx(10.004, abs=0.1)


def test_train_and_test_have_noise_of_their_own() -> None:
    train, test = load(train_per_class=2)
    assert not (train.x[:, None] == test.x[None]).flatten(2).all(2).any()


def test_classes_can_be_learned() -> None:
    """At the default noise of 64 the nearest class mean is right in more than nine of ten."""
    train, test = load(shape=[1, 8, 8], num_classes=10, train_per_class=100, test_per_class=20)
    means = torch.stack([train.x[train.y == c].float().flatten(1).mean(0) for c in range(10)])
    nearest = torch.cdist(test.x.float().flatten(1), means).argmin(1)
    assert (nearest == test.y).double().mean() > 0.9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_classes", 0),
        ("train_per_class", 0),
        ("test_per_class", -1),
        ("noise", -0.5),
        ("shape", [8, 8]),
        ("shape", [1, 0, 8]),
    ],
)
def test_values_that_make_no_images(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key} "):
        Synthetic(**SETTINGS | {key: value})
