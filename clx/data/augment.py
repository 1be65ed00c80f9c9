"""Random changes of training images: whole stored batches at a time, each image its own draw, on the device."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from clx.data import image
from clx.data.transform import ToInput

PADDING = 4  # pixels of black on each side that a crop may reach into
DEGREES = 15.0  # of a rotation, each way
JITTER = 0.4  # of brightness, contrast and saturation
OPERATIONS, MAGNITUDE = 2, 9  # of RandAugment: N and M, of 30
Operation = Callable[[Tensor, Tensor], Tensor]


def crop(x: Tensor) -> Tensor:
    """x [B, C, H, W], each image shifted by up to 4 pixels each way, black where nothing was."""
    batch, _, height, width = x.shape
    padded = functional.pad(x, [PADDING] * 4)
    shift = torch.randint(0, 2 * PADDING + 1, (2, batch, 1), device=x.device)
    rows = torch.arange(height, device=x.device) + shift[0]  # [B, H]
    columns = torch.arange(width, device=x.device) + shift[1]  # [B, W]
    number = torch.arange(batch, device=x.device).view(-1, 1, 1)
    return padded[number, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2).contiguous()


def flip(x: Tensor) -> Tensor:
    """x [B, C, H, W], each image mirrored left to right with probability 1/2."""
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


def rotation(x: Tensor) -> Tensor:
    """x [B, C, H, W], each image turned by up to 15 degrees each way, black where nothing was."""
    return image.rotate(x, _between(x, -DEGREES, DEGREES))


def color(x: Tensor) -> Tensor:
    """x [B, C, H, W], brightness, contrast and saturation of each image times 0.6 to 1.4."""
    for change in (image.brightness, image.contrast, image.color):
        x = change(x, _between(x, 1 - JITTER, 1 + JITTER))
    return x


def cutout(x: Tensor) -> Tensor:
    """x [B, C, H, W], in each image a black square of half its side around any pixel. DeVries & Taylor 2017,
    arXiv:1708.04552."""
    batch, _, height, width = x.shape
    half = min(height, width) // 4
    centre = torch.rand(2, batch, 1, device=x.device)
    rows = (torch.arange(height, device=x.device) - (centre[0] * height).floor()).add(0.5).abs() < half  # [B, H]
    columns = (torch.arange(width, device=x.device) - (centre[1] * width).floor()).add(0.5).abs() < half
    return x.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0)


def randaugment(x: Tensor) -> Tensor:
    """x [B, C, H, W], each image changed twice, by any of 14 operations at a fixed strength, its sign by chance.

    Cubuk et al. 2020, arXiv:1909.13719; N = 2 operations, magnitude M = 9 of 30.
    """
    strengths = _strengths(x.shape[3], x.shape[2])
    x = x.clone()
    for _ in range(OPERATIONS):
        chosen = torch.randint(len(strengths), (len(x),), device=x.device)
        sign = torch.where(torch.rand(len(x), device=x.device) < 0.5, -1.0, 1.0)
        for number, (operation, centre, strength) in enumerate(strengths):
            which = (chosen == number).nonzero().squeeze(1)
            if operation is not None and len(which):
                x[which] = operation(x[which], centre + strength * sign[which])
    return x


def _strengths(width: int, height: int) -> list[tuple[Operation | None, float, float]]:
    """(operation, its neutral amount, how far from it); where there is no second direction, the amount and 0."""
    part = MAGNITUDE / 30
    far = 150 / 331 * part  # of a side, as for the images that the operations were chosen on
    return [
        (None, 0, 0),
        (image.shear_x, 0, 0.3 * part),
        (image.shear_y, 0, 0.3 * part),
        (image.translate_x, 0, far * width),
        (image.translate_y, 0, far * height),
        (image.rotate, 0, 30 * part),
        (image.brightness, 1, 0.9 * part),
        (image.color, 1, 0.9 * part),
        (image.contrast, 1, 0.9 * part),
        (image.sharpness, 1, 0.9 * part),
        (image.posterize, 8 - round(4 * part), 0),
        (image.solarize, 255 * (1 - part), 0),
        (image.autocontrast, 0, 0),
        (image.equalize, 0, 0),
    ]


def _between(x: Tensor, low: float, high: float) -> Tensor:
    """[B] uniform."""
    return low + (high - low) * torch.rand(len(x), device=x.device)


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "crop": crop,
    "flip": flip,
    "rotation": rotation,
    "color": color,
    "cutout": cutout,
    "randaugment": randaugment,
}


class InOrder:
    """Augmentations one after the other: [B, C, H, W] bytes -> the same. Raises ValueError for an unknown name."""

    def __init__(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in AUGMENTATIONS:
                close = difflib.get_close_matches(name, AUGMENTATIONS, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(f"augment {name}: there is {', '.join(AUGMENTATIONS)}{hint}")
        self.steps = [AUGMENTATIONS[name] for name in names]

    def __call__(self, raw: Tensor) -> Tensor:
        for step in self.steps:
            raw = step(raw)
        return raw


class Augmented(ToInput):
    """Stored batch -> augmentations in the given order -> the model's input. Draws come from torch's global generator.

    Raises ValueError for a name that there is not.
    """

    def __init__(self, to_input: ToInput, names: Sequence[str]) -> None:
        self.augment = InOrder(names)
        vars(self).update(vars(to_input))

    def __call__(self, raw: Tensor) -> Tensor:
        return super().__call__(self.augment(raw))
