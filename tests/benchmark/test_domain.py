"""Permuted and rotated streams, over a data set in which every pixel of every class is another number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clx.benchmark.domain import Permuted, Rotated
from clx.data.dataset import Arrays, DataSet

CLASSES = 4


class Pixels(DataSet):
    """Two-channel images; pixel p of channel k of class c is 60 c + 30 k + p, the same in both parts.

    Three training and two test samples of each class.
    """

    name = "pixels"
    num_classes = CLASSES
    mean = (0.0, 0.0)
    std = (1.0, 1.0)

    def __init__(self, height: int = 4, width: int = 5) -> None:
        self.shape = (2, height, width)

    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        one, two = (torch.arange(CLASSES).repeat(count) for count in (3, 2))
        return Arrays(self.images(one), one), Arrays(self.images(two), two)

    def images(self, y: Tensor) -> Tensor:
        pixels = torch.arange(self.shape[1] * self.shape[2])
        values = 60 * y.view(-1, 1, 1) + 30 * torch.arange(2).view(1, 2, 1) + pixels
        return values.to(torch.uint8).view(-1, *self.shape)


def permuted(**keys: Any) -> Permuted:
    return Permuted(**{"data": Pixels(), "num_experiences": 3} | keys)


def orders(benchmark: Permuted) -> list[list[int]]:
    """The permutation of each experience, read off its first image: class 0, channel 0, so a pixel is its position."""
    return [experience.data.raw[0, 0].flatten().tolist() for experience in benchmark.train]


def test_an_experience_has_one_permutation_of_all_pixels() -> None:
    """The same for both channels, every class, training and test: pixel = 60 c + 30 k + where it came from."""
    benchmark = permuted()
    for order, experience, test in zip(orders(benchmark), benchmark.train, benchmark.test, strict=True):
        assert sorted(order) == list(range(20))
        for samples in (experience.data, test):
            moved = samples.raw.flatten(2).long()
            expected = 60 * samples.y.view(-1, 1, 1) + 30 * torch.arange(2).view(1, 2, 1) + torch.tensor(order)
            assert torch.equal(moved, expected)
            assert samples.raw.dtype == torch.uint8
            assert samples.raw.shape[1:] == (2, 4, 5)


def test_every_experience_is_permuted_anew() -> None:
    """The first one too."""
    found = [*orders(permuted()), list(range(20))]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])


def test_permutations_depend_on_order_seed_alone() -> None:
    torch.manual_seed(0)
    first = orders(permuted())
    torch.manual_seed(1)
    assert orders(permuted()) == first
    assert orders(permuted(num_experiences=2)) == first[:2]
    assert all(a != b for a, b in zip(orders(permuted(order_seed=1)), first, strict=True))


def test_permutations_are_described() -> None:
    benchmark = permuted()
    assert benchmark.describe()["permutations"] == orders(benchmark)


@pytest.mark.parametrize(
    ("scenario", "starts", "labels", "num_classes"),
    [
        ("domain_incremental", [0, 0, 0], [0, 0, 0], 4),
        ("class_incremental", [0, 4, 8], [0, 0, 0], 12),
        ("task_incremental", [0, 4, 8], [0, 1, 2], 12),
    ],
)
def test_scenarios(scenario: str, starts: list[int], labels: list[int], num_classes: int) -> None:
    """Class c of experience i is column c in domain_incremental, else i * 4 + c; the image says c: pixel // 60."""
    benchmark = permuted(scenario=scenario)
    assert benchmark.num_classes == num_classes
    for i, (start, label, experience) in enumerate(zip(starts, labels, benchmark.train, strict=True)):
        columns = tuple(range(start, start + CLASSES))
        assert experience.classes == benchmark.train.classes[i] == benchmark.test.classes[i] == columns
        assert experience.new_classes == (columns if start or not i else ())
        assert experience.classes_by_task == {label: columns}
        for samples, count in ((experience.data, 3), (benchmark.test[i], 2)):
            assert samples.y.bincount(minlength=num_classes)[start : start + CLASSES].tolist() == [count] * CLASSES
            assert torch.equal(samples.y, start + samples.raw[:, 0, 0, 0].long() // 60)
            assert samples.t.tolist() == [label] * len(samples)


@pytest.mark.parametrize(
    ("class_ids", "expected"),
    [("stream", (4, 5, 6, 7)), ("original", (0, 1, 2, 3)), ("from_zero", (0, 1, 2, 3))],
)
def test_class_ids(class_ids: str, expected: tuple[int, ...]) -> None:
    experience = permuted(scenario="class_incremental", class_ids=class_ids).train[1]
    assert experience.class_ids == expected
    assert experience.classes == (4, 5, 6, 7)


@pytest.mark.parametrize(
    ("accumulate", "index", "parts"), [("cumulative", 0, 1), ("cumulative", 1, 2), ("joint", 0, 3)]
)
def test_accumulated_domains_keep_their_own_view(accumulate: str, index: int, parts: int) -> None:
    plain, benchmark = permuted().train, permuted(accumulate=accumulate)
    experience = benchmark.train[index]
    assert torch.equal(experience.data.raw, torch.cat([plain[i].data.raw for i in range(parts)]))
    assert torch.equal(experience.data.y, torch.arange(CLASSES).repeat(3 * parts))
    assert (experience.classes, experience.classes_by_task) == ((0, 1, 2, 3), {0: (0, 1, 2, 3)})
    assert [len(samples) for samples in benchmark.test] == [2 * CLASSES] * 3


def test_samples_per_class_and_validation() -> None:
    """2 of 3 samples of each class, half of them held out: one and one, under the same view."""
    by_class = permuted().train[1].data.raw[:CLASSES]
    experience = permuted(samples_per_class=2, validation_fraction=0.5).train[1]
    assert experience.val is not None
    for samples in (experience.data, experience.val):
        assert sorted(samples.y.tolist()) == [0, 1, 2, 3]
        assert torch.equal(samples.raw, by_class[samples.y])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_experiences", None),
        ("num_experiences", 0),
        ("init_classes", 2),
        ("classes_per_experience", 2),
        ("class_order", [3, 2, 1, 0]),
        ("shuffle", True),
        ("task_labels", [0]),
    ],
)
@pytest.mark.parametrize("benchmark", [Permuted, Rotated])
def test_keys_that_do_not_fit(benchmark: type[Permuted | Rotated], key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key} "):
        benchmark(**{"data": Pixels(), "num_experiences": 3, key: value})


def rotated(monkeypatch: pytest.MonkeyPatch, data: Pixels, angles: list[float]) -> Rotated:
    benchmark = Rotated(data=data, num_experiences=len(angles))
    monkeypatch.setattr(benchmark, "angles", angles)
    return benchmark


def test_quarter_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of square images: exactly what torch.rot90 gives, counter-clockwise as it is."""
    data = Pixels(4, 4)
    benchmark = rotated(monkeypatch, data, [0.0, 90.0, 180.0])
    for quarters, (experience, test) in enumerate(zip(benchmark.train, benchmark.test, strict=True)):
        for samples, arrays in zip((experience.data, test), data.load(Path()), strict=True):
            assert samples.raw.dtype == torch.uint8
            assert torch.equal(samples.raw, torch.rot90(arrays.x, quarters, (2, 3)))


def test_an_oblong_turns_about_its_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    """3x5 by 90 degrees: the pixels stay square, so the 3x3 in the middle turns and both outer columns are black.

    They would come from two rows above and below the middle, where there is no image.
    """
    data = Pixels(3, 5)
    experience = rotated(monkeypatch, data, [90.0]).train[0]
    expected = torch.zeros_like(experience.data.raw)
    expected[..., 1:4] = torch.rot90(data.load(Path())[0].x[..., 1:4], 1, (2, 3))
    assert torch.equal(experience.data.raw, expected)


def test_the_corners_of_a_turn_are_black(monkeypatch: pytest.MonkeyPatch) -> None:
    """White 9x9 by 45 degrees: a corner pixel lies 4 * sqrt(2) = 5.7 from the centre, along an axis of the input,

    whose edge is at 4.5 and blurs for half a pixel. The inner 5x5 reaches to 2 * sqrt(2) = 2.8: white.
    """
    data = Pixels(9, 9)
    monkeypatch.setattr(data, "images", lambda y: torch.full((len(y), 2, 9, 9), 255, dtype=torch.uint8))
    raw = rotated(monkeypatch, data, [45.0]).train[0].data.raw
    assert (raw[..., [0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()
    assert (raw[..., 2:7, 2:7] == 255).all()


def test_angles_depend_on_order_seed_alone() -> None:
    """Each in [0, 180), none like another; drawn again they are the same."""

    def angles(seed: int, torch_seed: int) -> list[float]:
        torch.manual_seed(torch_seed)
        benchmark = Rotated(data=Pixels(), num_experiences=20, order_seed=seed)
        assert benchmark.describe()["angles"] == benchmark.angles
        return benchmark.angles

    first = angles(0, 1)
    assert (len(first), len(set(first))) == (20, 20)
    assert all(0 <= angle < 180 for angle in first)
    assert angles(0, 2) == first
    assert not set(angles(1, 1)) & set(first)
