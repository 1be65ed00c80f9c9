"""Crop and flip on whole batches: each image its own draw, and nothing else changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clx.data.augment import Augmented, crop, flip
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
    with pytest.raises(ValueError, match=r"^augment cropp: there is crop, flip; did you mean crop\?"):
        Augmented(plain, ["cropp"])


def test_training_alone_is_augmented(make_benchmark: Any) -> None:
    benchmark = make_benchmark(augment=["crop", "flip"])
    raw = benchmark.train[0].data.raw
    transform = benchmark.transform
    assert torch.equal(transform.eval(raw), transform.eval(raw))
    assert not torch.equal(transform.train(raw), transform.train(raw))
    plain = make_benchmark()
    assert plain.transform.train is plain.transform.eval
