"""Random changes of training images: whole stored batches at a time, each image its own draw, on the device."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from clx.data.transform import ToInput

PADDING = 4  # pixels of black on each side that a crop may reach into


def crop(x: Tensor) -> Tensor:
    """x [B, C, H, W], each image shifted by up to 4 pixels each way, black where nothing was."""
    batch, _, height, width = x.shape
    padded = functional.pad(x, [PADDING] * 4)
    shift = torch.randint(0, 2 * PADDING + 1, (2, batch, 1), device=x.device)
    rows = torch.arange(height, device=x.device) + shift[0]  # [B, H]
    columns = torch.arange(width, device=x.device) + shift[1]  # [B, W]
    image = torch.arange(batch, device=x.device).view(-1, 1, 1)
    return padded[image, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2).contiguous()


def flip(x: Tensor) -> Tensor:
    """x [B, C, H, W], each image mirrored left to right with probability 1/2."""
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {"crop": crop, "flip": flip}


class Augmented(ToInput):
    """Stored batch -> augmentations in the given order -> the model's input. Draws come from torch's global generator.

    Raises ValueError for a name that there is not.
    """

    def __init__(self, to_input: ToInput, names: Sequence[str]) -> None:
        for name in names:
            if name not in AUGMENTATIONS:
                close = difflib.get_close_matches(name, AUGMENTATIONS, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(f"augment {name}: there is {', '.join(AUGMENTATIONS)}{hint}")
        vars(self).update(vars(to_input))
        self.steps = [AUGMENTATIONS[name] for name in names]

    def __call__(self, raw: Tensor) -> Tensor:
        for step in self.steps:
            raw = step(raw)
        return super().__call__(raw)
