"""Changes of images, whole batches at a time, each image by an amount of its own.

x: [B, C, H, W] uint8, any device; amount: [B] float. What they return is of the same shape and type. Each is the
operation of the same name in Pillow and torchvision, with black where nothing was.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

GREY = (0.2989, 0.587, 0.114)  # of red, green and blue in a grey value, ITU-R BT.601


def shear_x(x: Tensor, amount: Tensor) -> Tensor:
    """Each row shifted in proportion to its distance from the top, by amount pixels a row."""
    return _warp(x, x11=1, x12=amount, shift_x=amount * x.shape[2] / 2)


def shear_y(x: Tensor, amount: Tensor) -> Tensor:
    """Each column shifted in proportion to its distance from the left, by amount pixels a column."""
    return _warp(x, x21=amount, shift_y=amount * x.shape[3] / 2)


def translate_x(x: Tensor, amount: Tensor) -> Tensor:
    """Shifted to the right by amount pixels, rounded towards zero."""
    return _warp(x, shift_x=-amount.trunc())


def translate_y(x: Tensor, amount: Tensor) -> Tensor:
    """Shifted down by amount pixels, rounded towards zero."""
    return _warp(x, shift_y=-amount.trunc())


def rotate(x: Tensor, amount: Tensor) -> Tensor:
    """Turned about the centre, anticlockwise by amount degrees."""
    angle = amount * (math.pi / 180)
    return _warp(x, x11=angle.cos(), x12=-angle.sin(), x21=angle.sin(), x22=angle.cos())


def brightness(x: Tensor, amount: Tensor) -> Tensor:
    """Blended with black: 0 = black, 1 = as it is."""
    return _blend(x, torch.zeros((), device=x.device), amount)


def contrast(x: Tensor, amount: Tensor) -> Tensor:
    """Blended with the mean of its grey values."""
    return _blend(x, _grey(x).floor().mean((1, 2, 3), keepdim=True), amount)


def color(x: Tensor, amount: Tensor) -> Tensor:
    """Blended with its grey values; an image of one channel stays as it is."""
    return x if x.shape[1] == 1 else _blend(x, _grey(x).floor(), amount)


def sharpness(x: Tensor, amount: Tensor) -> Tensor:
    """Blended with itself smoothed, its border apart."""
    if min(x.shape[2:]) < 3:
        return x
    kernel = torch.ones(3, 3, device=x.device)
    kernel[1, 1] = 5
    weight = (kernel / kernel.sum()).expand(x.shape[1], 1, 3, 3)
    smooth = x.float()
    smooth[:, :, 1:-1, 1:-1] = functional.conv2d(x.float(), weight, groups=x.shape[1]).round()
    return _blend(x, smooth, amount)


def posterize(x: Tensor, amount: Tensor) -> Tensor:
    """Only the highest amount bits of each value."""
    mask = (256 - 2 ** (8 - amount.long().clamp(0, 8))).to(torch.uint8)
    return x & _wide(mask)


def solarize(x: Tensor, amount: Tensor) -> Tensor:
    """Values of amount and more inverted."""
    return torch.where(x >= _wide(amount), 255 - x, x)


def autocontrast(x: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched to 0 to 255; one of a single value stays as it is."""
    values = x.float()
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    stretched = (values - low) * (255 / (high - low).clamp(min=1))
    return torch.where(high > low, stretched.clamp(0, 255), values).to(torch.uint8)


def equalize(x: Tensor, _: Tensor) -> Tensor:
    """Each channel's values spread evenly over 0 to 255."""
    batch, channels, height, width = x.shape
    flat = x.view(batch * channels, height * width).long()
    counts = torch.zeros(len(flat), 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    last = counts.gather(1, flat.amax(1, keepdim=True))  # of the brightest value: no step follows it
    step = (height * width - last) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step == 0, torch.arange(256, device=x.device), table)
    return table.gather(1, flat).to(torch.uint8).view_as(x)


def _warp(x: Tensor, **entries: Tensor | float) -> Tensor:
    """Each output pixel from where the matrix (x11 x12; x21 x22) and the shifts, in pixels about the centre, say."""
    batch, _, height, width = x.shape
    given = {"x11": 1.0, "x12": 0.0, "shift_x": 0.0, "x21": 0.0, "x22": 1.0, "shift_y": 0.0} | entries
    # affine_grid counts half an image as 1, along each side.
    scale = {"x12": height / width, "x21": width / height, "shift_x": 2 / width, "shift_y": 2 / height}
    column = [
        torch.as_tensor(value, dtype=torch.float32, device=x.device).expand(batch) * scale.get(name, 1.0)
        for name, value in given.items()
    ]
    grid = functional.affine_grid(torch.stack(column, 1).view(batch, 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(x.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)


def _blend(x: Tensor, other: Tensor, amount: Tensor) -> Tensor:
    ratio = _wide(amount)
    return (ratio * x.float() + (1 - ratio) * other).clamp(0, 255).to(torch.uint8)


def _grey(x: Tensor) -> Tensor:
    """[B, 1, H, W] float."""
    if x.shape[1] != 3:
        return x.float().mean(1, keepdim=True)
    return (x * torch.tensor(GREY, device=x.device).view(-1, 1, 1)).sum(1, keepdim=True)


def _wide(amount: Tensor) -> Tensor:
    return amount.view(-1, 1, 1, 1)
