"""From stored images to the model's input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clx.data.transform import ToInput


def image(*rows: list[int]) -> Tensor:
    """One image with one channel."""
    return torch.tensor([[rows]], dtype=torch.uint8)


def close(x: Tensor, expected: Any) -> None:
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-5)


def test_normalisation() -> None:
    """(p / 255 - 0.5) / 0.25: 0 -> -2; 255 -> 2; 51 = 0.2 -> -1.2; 204 = 0.8 -> 1.2."""
    to_input = ToInput((1, 2, 2), mean=[0.5], std=[0.25])
    close(to_input(image([0, 255], [51, 204])), [[[[-2.0, 2.0], [-1.2, 1.2]]]])
    assert to_input.shape == (1, 2, 2)


def test_each_channel_has_its_own_mean_and_deviation() -> None:
    """102 = 0.4: (0.4 - 0.2) / 0.1 = 2; (0.4 - 0.4) / 0.2 = 0; (0.4 - 0.8) / 0.4 = -1. Two images alike."""
    to_input = ToInput((3, 1, 1), mean=[0.2, 0.4, 0.8], std=[0.1, 0.2, 0.4])
    close(to_input(torch.full((2, 3, 1, 1), 102, dtype=torch.uint8)), [[[[2.0]], [[0.0]], [[-1.0]]]] * 2)


@pytest.mark.parametrize(("size", "top", "left"), [(4, 1, 1), (5, 1, 1), (6, 2, 2)])
def test_padding_is_black_and_around_the_centre(size: int, top: int, left: int) -> None:
    """Black is (0 - 0.5) / 0.25 = -2, not 0; an odd rest goes below and to the right."""
    x = ToInput((1, 2, 2), mean=[0.5], std=[0.25], image_size=size)(image([255, 51], [204, 255]))
    expected = torch.full((1, 1, size, size), -2.0)
    expected[0, 0, top : top + 2, left : left + 2] = torch.tensor([[2.0, -1.2], [1.2, 2.0]])
    close(x, expected.tolist())


def test_padding_makes_a_square_of_an_oblong() -> None:
    """1x3 in 3x3: one black row above, one below."""
    to_input = ToInput((1, 1, 3), mean=[0.0], std=[1.0], image_size=3)
    close(to_input(image([255, 51, 102])), [[[[0.0, 0.0, 0.0], [1.0, 0.2, 0.4], [0.0, 0.0, 0.0]]]])
    assert to_input.shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        # 2 -> 4: outputs lie at -0.25, 0.25, 0.75, 1.25 of the inputs 0 and 1; outside, the border is repeated
        (([0, 255], [0, 255]), 4, [[0.0, 0.25, 0.75, 1.0]] * 4),
        # 2 -> 1: the mean of all four, (0 + 255 + 51 + 204) / 4 / 255 = 0.5
        (([0, 255], [51, 204]), 1, [[0.5]]),
        (([0, 255], [51, 204]), 2, [[0.0, 1.0], [0.2, 0.8]]),
    ],
)
def test_interpolation(rows: tuple[list[int], ...], size: int, expected: list[list[float]]) -> None:
    to_input = ToInput((1, 2, 2), mean=[0.0], std=[1.0], image_size=size, resize="interpolate")
    close(to_input(image(*rows)), [[expected]])
    assert to_input.shape == (1, size, size)


def test_shrinking_averages_over_all_pixels() -> None:
    """4 -> 2: output 0 is centred at 1; pixels at 0.5 1.5 2.5 weigh 1 - distance / 2 = 3/4 3/4 1/4, over their sum 7/4.

    Of 0 0 1 1 that is 1/7; the other way round 6/7. Without antialiasing it would be 0 and 1.
    """
    to_input = ToInput((1, 4, 4), mean=[0.0], std=[1.0], image_size=2, resize="interpolate")
    close(to_input(image(*[[0, 0, 255, 255]] * 4)), [[[[1 / 7, 6 / 7]] * 2]])


def test_one_channel_becomes_three() -> None:
    """(51 / 255 - 0.5) / 0.25 = -1.2 in each."""
    to_input = ToInput((1, 1, 1), mean=[0.5], std=[0.25], channels=3)
    close(to_input(image([51])), [[[[-1.2]], [[-1.2]], [[-1.2]]]])
    assert to_input.shape == (3, 1, 1)


def test_three_channels_become_one() -> None:
    """Pixel (0 + 51 + 204) / 3 = 85 = 1/3; mean (0.1 + 0.2 + 0.6) / 3 = 0.3; deviation (0.1 + 0.2 + 0.3) / 3 = 0.2.

    (1/3 - 0.3) / 0.2 = 1/6.
    """
    to_input = ToInput((3, 1, 1), mean=[0.1, 0.2, 0.6], std=[0.1, 0.2, 0.3], channels=1)
    close(to_input(torch.tensor([0, 51, 204], dtype=torch.uint8).view(1, 3, 1, 1)), [[[[1 / 6]]]])
    assert to_input.shape == (1, 1, 1)


def test_pad_and_channels_together() -> None:
    """1x1 in 2x2 has no centre: the image stays at the top left, in each of two channels."""
    to_input = ToInput((1, 1, 1), mean=[0.5], std=[0.25], image_size=2, channels=2)
    close(to_input(image([255])), [[[[2.0, -2.0], [-2.0, -2.0]]] * 2])


def test_to_keeps_the_result() -> None:
    to_input = ToInput((1, 1, 1), mean=[0.5], std=[0.25])
    assert to_input.to(torch.device("cpu")) is to_input
    close(to_input(image([255])), [[[[2.0]]]])


@pytest.mark.parametrize(
    ("shape", "options", "key"),
    [
        ((1, 8, 8), {"image_size": 7}, "image_size 7 is smaller than the 8x8"),
        ((1, 4, 8), {"image_size": 6}, "image_size 6 is smaller than the 4x8"),
        ((1, 8, 8), {"image_size": 0}, "image_size 0 < 1"),
        ((1, 8, 8), {"image_size": 0, "resize": "interpolate"}, "image_size 0 < 1"),
        ((1, 8, 8), {"channels": 0}, "channels 0"),
        ((3, 8, 8), {"channels": 2}, "channels 2: images with 3 channels"),
        ((3, 8, 8), {"channels": 4}, "channels 4"),
    ],
)
def test_what_cannot_be_done(shape: tuple[int, ...], options: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}"):
        ToInput(shape, mean=[0.5] * shape[0], std=[0.25] * shape[0], **options)
