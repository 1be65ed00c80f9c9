"""From stored batches to the model's input, on whole batches and on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


class ToInput:
    """Stored batch [B, C, H, W] -> float32 [B, channels, image_size, image_size], normalised channel by channel.

    mean, std: of each stored channel, in [0, 1]. channels: 1 (mean over the stored ones) or any number of
    copies of a single one; image_size in pixels, reached by zero padding around the image or by bilinear
    interpolation. None = as stored. Raises ValueError where the data cannot be brought to that form.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: int | None = None,
        channels: int | None = None,
        resize: Literal["pad", "interpolate"] = "pad",
    ) -> None:
        stored, height, width = shape
        self.channels = stored if channels is None else channels
        self.size = (height, width) if image_size is None else (image_size, image_size)
        self.resize = resize
        if self.channels < 1 or (self.channels not in (1, stored) and stored != 1):
            raise ValueError(f"channels {channels}: images with {stored} channels can become 1 or {stored}, not that")
        if min(self.size) < 1:
            raise ValueError(f"image_size {image_size} < 1; give the side in pixels, or null for the data's own")
        if resize == "pad" and (self.size[0] < height or self.size[1] < width):
            raise ValueError(
                f"image_size {image_size} is smaller than the {height}x{width} images; "
                "padding cannot shrink them: set benchmark.resize=interpolate"
            )
        gray = self.channels == 1 and stored != 1
        mean, std = ([sum(m) / len(m)] if gray else m for m in (mean, std))
        self.gray = gray
        # (raw / 255 - mean) / std as one multiplication and one addition
        scale, shift = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
        self.scale, self.shift = _constant(scale), _constant(shift)
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        self.padding = (left, self.size[1] - width - left, top, self.size[0] - height - top)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one input, without the batch."""
        return (self.channels, *self.size)

    def to(self, device: torch.device) -> ToInput:
        """Move the constants to the device of the batches to come."""
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)
        return self

    def __call__(self, raw: Tensor) -> Tensor:
        if self.resize == "pad" and any(self.padding):
            raw = functional.pad(raw, self.padding)  # before normalisation: the border is black, not grey
        x = raw.to(torch.float32)
        if self.gray:
            x = x.mean(1, keepdim=True)
        # In place where the copy is ours: several times as fast as one addcmul with constants that are broadcast.
        x = (x * self.scale if x is raw else x.mul_(self.scale)).add_(self.shift)
        if self.resize == "interpolate" and tuple(x.shape[2:]) != self.size:
            x = functional.interpolate(x, self.size, mode="bilinear", antialias=True)
        return x.expand(-1, self.channels, -1, -1) if x.shape[1] != self.channels else x


def _constant(values: list[float]) -> Tensor:
    """[C, 1, 1], or without dimensions for a single channel: then torch takes half the time that a number takes it."""
    return torch.tensor(values[0]) if len(values) == 1 else torch.tensor(values).view(-1, 1, 1)
