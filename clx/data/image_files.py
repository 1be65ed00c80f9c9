"""Images that lie in files: decoding one, and a storage of many that decodes those asked for."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clx.data.dataset import DamagedData
from clx.runtime import machine

# By suffix. Pillow looks at the content, and reads others through programs that it would have to start.
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".pgm": "PPM", ".ppm": "PPM",
    ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
CHANNELS = 3


def decode(path: Path, size: int) -> np.ndarray:
    """The middle square of an image file as [3, size, size] bytes, RGB, bilinear with antialiasing.

    That is its shorter side brought to size and the middle of the longer one. Raises DamagedData, with the file, for
    what is no whole image, has more than 8 bits a channel, or more pixels than Pillow takes for harmless.
    """
    from PIL import Image  # noqa: PLC0415 - of use here alone

    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as image:
            deep = image.mode.startswith(("I", "F"))
            side, (width, height) = min(image.size), image.size
            left, top = (width - side) / 2, (height - side) / 2
            square = (left, top, left + side, top + side)
            coloured = image if image.mode == "RGB" else image.convert("RGB")
            resized = coloured.resize((size, size), Image.Resampling.BILINEAR, square)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # by the place of the damage
        raise DamagedData(f"{path}: not a whole image ({error}); mend it or take it away") from error
    if deep:  # Pillow makes white of most of it
        raise DamagedData(f"{path}: an image of more than 8 bits a channel; store it with 8")
    return np.asarray(resized).transpose(2, 0, 1)


class ImageFiles:
    """Storage [N, 3, size, size] uint8 of the files at the paths, decoded by threads that live as long as it does.

    Pillow's decoders leave the other threads running. workers: how many at most; None = one for each core.
    """

    dtype, device = torch.uint8, torch.device("cpu")

    def __init__(self, paths: Sequence[Path], size: int, workers: int | None = None) -> None:
        self.paths, self.size = paths, size
        self.shape = torch.Size((len(paths), CHANNELS, size, size))
        self.workers = ThreadPoolExecutor(workers or machine.cores(), "clx-decode")

    def __len__(self) -> int:
        return len(self.paths)

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """The images [B, 3, size, size] in the rows index [B]; dim is 0. Raises DamagedData."""
        out = np.empty((len(index), *self.shape[1:]), np.uint8)
        wanted = [self.paths[row] for row in index.tolist()]
        for place, image in enumerate(self.workers.map(functools.partial(decode, size=self.size), wanted)):
            out[place] = image
        return torch.from_numpy(out)
