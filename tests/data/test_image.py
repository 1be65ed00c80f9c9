"""Changes of images against torchvision, which makes them one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clx.data import image
from clx.runtime.torchvision import torchvision

assert torchvision
from torchvision.transforms import InterpolationMode  # noqa: E402 - through the door first
from torchvision.transforms.v2 import functional  # noqa: E402

NEAREST = InterpolationMode.NEAREST
One = Callable[[Tensor, float], Tensor]


def warped(x: Tensor, translate: list[int] | None = None, shear: list[float] | None = None) -> Tensor:
    centre = None if shear is None else [0.0, 0.0]
    moved: Tensor = functional.affine(
        x, angle=0.0, translate=translate or [0, 0], scale=1.0, shear=shear or [0.0, 0.0], interpolation=NEAREST,
        center=centre,
    )  # fmt: skip
    return moved


def degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


SHEARS, PIXELS, ANGLES = (0.0, 0.1, -0.2, 0.3, -0.3), (0.0, 1.7, -2.2, 3.9, -3.0), (0.0, 10.0, -20.0, 30.0, -7.0)
FACTORS, BITS, LEVELS = (0.0, 0.5, 1.0, 1.3, 1.9), (8.0, 7.0, 6.0, 4.0, 1.0), (255.0, 200.0, 100.0, 0.0, 128.0)
CASES: dict[str, tuple[tuple[float, ...], One]] = {
    "shear_x": (SHEARS, lambda x, a: warped(x, shear=[degrees(a), 0.0])),
    "shear_y": (SHEARS, lambda x, a: warped(x, shear=[0.0, degrees(a)])),
    "translate_x": (PIXELS, lambda x, a: warped(x, translate=[int(a), 0])),
    "translate_y": (PIXELS, lambda x, a: warped(x, translate=[0, int(a)])),
    "rotate": (ANGLES, lambda x, a: functional.rotate(x, a, interpolation=NEAREST)),
    "brightness": (FACTORS, functional.adjust_brightness),
    "contrast": (FACTORS, functional.adjust_contrast),
    "color": (FACTORS, functional.adjust_saturation),
    "sharpness": (FACTORS, functional.adjust_sharpness),
    "posterize": (BITS, lambda x, a: functional.posterize(x, int(a))),
    "solarize": (LEVELS, functional.solarize),
    "autocontrast": (FACTORS, lambda x, _: functional.autocontrast(x)),
    "equalize": (FACTORS, lambda x, _: functional.equalize(x)),
}


@pytest.mark.parametrize("name", CASES)
def test_as_torchvision_does_it(name: str) -> None:
    """Five images of 16x12, each with an amount of its own. Values differ by at most 1, by rounding; of the warped ones
    at most 1 % of the pixels come from the neighbour, where a place lies between two."""
    torch.manual_seed(0)
    x = torch.randint(256, (5, 3, 16, 12), dtype=torch.uint8)
    x[:, :, :4] //= 3
    amounts, one = CASES[name]
    expected = torch.stack([one(picture, amount) for picture, amount in zip(x, amounts, strict=True)])
    difference = (getattr(image, name)(x, torch.tensor(amounts)).int() - expected.int()).abs()
    if name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
        assert float((difference > 0).float().mean()) < 0.01
    else:
        assert int(difference.max()) <= 1


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "color", "contrast"])
def test_an_image_of_one_value_and_one_channel(name: str) -> None:
    x = torch.full((2, 1, 4, 4), 7, dtype=torch.uint8)
    assert torch.equal(getattr(image, name)(x, torch.tensor([0.5, 1.5])), x)


def test_an_image_too_small_to_be_smoothed() -> None:
    x = torch.randint(256, (2, 1, 2, 5), dtype=torch.uint8)
    assert torch.equal(image.sharpness(x, torch.tensor([0.5, 1.5])), x)
