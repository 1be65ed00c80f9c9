"""Crop and flip on whole batches: each image its own draw, and nothing else changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clx.data.augment import AUGMENTATIONS, Augmented, crop, cutout, flip, randaugment, rotation
from clx.data.transform import ToInput


def images(count: int) -> Tensor:
    """Every pixel of every image and channel is another number, none of them 0."""
    return torch.arange(1, 1 + count * 3 * 6 * 5).view(count, 3, 6, 5)


def test_each_crop_is_a_window_of_its_padded_image() -> None:
    """200 images of 6x5: each is one of the 9 x 9 windows, and nearly all of those are met."""
    torch.manual_seed(0)
    x = images(200)
    out, padded, shifts = crop(x), functional.pad(x, [4] * 4), set()
    assert out.shape == x.shape
    assert out.is_contiguous()  # a model may view it
    for image, wide in zip(out, padded, strict=True):
        found = [(r, c) for r in range(9) for c in range(9) if torch.equal(image, wide[:, r : r + 6, c : c + 5])]
        assert found
        shifts.add(found[0])
    assert len(shifts) > 60
    assert {r for r, _ in shifts} == {c for _, c in shifts} == set(range(9))


def test_each_flip_is_the_image_or_its_mirror() -> None:
    """Of 400 about half: 200 +- 60 is six deviations."""
    torch.manual_seed(0)
    x = images(400)
    out = flip(x)
    mirrored = (out == x.flip(3)).flatten(1).all(1)
    assert bool((mirrored | (out == x).flatten(1).all(1)).all())
    assert 140 < int(mirrored.sum()) < 260


def test_in_front_of_the_input_transform() -> None:
    """The same draws give the same input as augmenting by hand; stored bytes stay bytes until then."""
    plain = ToInput([3, 6, 5], mean=[0.5] * 3, std=[0.25] * 3)
    x = torch.randint(256, (7, 3, 6, 5), dtype=torch.uint8)
    before = x.clone()
    torch.manual_seed(1)
    out = Augmented(plain, ["crop", "flip"])(x)
    torch.manual_seed(1)
    torch.testing.assert_close(out, plain(flip(crop(x))), rtol=0, atol=0)
    assert torch.equal(x, before)
    assert Augmented(plain, ["flip"]).shape == plain.shape


def test_a_name_that_does_not_exist() -> None:
    plain = ToInput([1, 4, 4], mean=[0.5], std=[0.5])
    with pytest.raises(ValueError, match=r"^augment cropp: there is crop, flip, .*; did you mean crop\?"):
        Augmented(plain, ["cropp"])


def test_training_alone_is_augmented(make_benchmark: Any) -> None:
    benchmark = make_benchmark(augment=["crop", "flip"])
    raw = benchmark.train[0].data.raw
    transform = benchmark.transform
    assert torch.equal(transform.eval(raw), transform.eval(raw))
    assert not torch.equal(transform.train(raw), transform.train(raw))
    plain = make_benchmark()
    assert plain.transform.train is plain.transform.eval


def noise(count: int, channels: int = 3) -> Tensor:
    return torch.randint(1, 256, (count, channels, 12, 8), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_bytes_stay_bytes_and_each_image_has_its_own_draw(name: str, channels: int) -> None:
    """Forty copies of one image come out as several; what went in is left alone."""
    torch.manual_seed(0)
    x = noise(1, channels).expand(40, -1, -1, -1).contiguous()
    before = x.clone()
    out = AUGMENTATIONS[name](x)
    assert (out.dtype, out.shape) == (x.dtype, x.shape)
    assert out.is_contiguous()
    assert torch.equal(x, before)
    several = len({image.numpy().tobytes() for image in out})
    assert several == 2 if name == "flip" else several > 5
    assert len(AUGMENTATIONS[name](x[:1])) == 1


def test_cutout_blackens_a_square_of_half_the_shorter_side() -> None:
    """12x8 pixels: 4x4, less at the border; everything else is as it was. In the middle, all of it."""
    torch.manual_seed(0)
    x = noise(200)
    out = cutout(x)
    black = out == 0
    assert bool((black.all(1) == black.any(1)).all())  # of all channels
    assert torch.equal(out[~black], x[~black])
    black = black[:, 0]
    sizes = black.sum((1, 2))
    assert sizes.max() == 16
    assert bool((sizes >= 4).all())
    for one in black:
        rows, columns = one.any(1).nonzero(), one.any(0).nonzero()
        inside = one[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert bool(inside.all())
        assert max(inside.shape) <= 4


def test_a_rotation_keeps_the_centre_and_the_mean_angle_at_nought() -> None:
    """A bright column through the middle of a 13x13 image leans by at most 15 degrees: at the top row, 6 pixels off,
    by at most 6 tan 15 = 1.6 pixels each way."""
    torch.manual_seed(0)
    x = torch.zeros(300, 1, 13, 13, dtype=torch.uint8)
    x[..., 6] = 255
    out = rotation(x)
    assert bool((out[:, 0, 6, 6] == 255).all())
    top = out[:, 0, 0].float()
    place = (top * torch.arange(13)).sum(1) / top.sum(1).clamp(min=1)
    place = place[top.sum(1) > 0] - 6
    assert 1 < float(place.abs().max()) <= 2
    assert abs(float(place.mean())) < 0.3


def test_randaugment_leaves_some_images_as_they_are() -> None:
    """Twice the identity has probability 1/196, and some operations change little; all 14 are met among 2,000 draws."""
    torch.manual_seed(0)
    x = noise(1000)
    out = randaugment(x)
    same = (out == x).flatten(1).all(1).float().mean()
    assert 0 < float(same) < 0.1
