"""CORe50: short videos of fifty objects in eleven sessions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from clx.data.cache import cached, room, shown
from clx.data.dataset import Arrays, DamagedData, DataSet, MissingData

IMAGES = "core50_128x128"
TEST_SESSIONS = (3, 7, 10)
OBJECTS = 50


class CORe50(DataSet):
    """164,866 colour images of 128x128: 50 objects, 5 of each of 10 categories. Lomonaco & Maltoni 2017,
    arXiv:1705.03550. Sessions 3, 7 and 10 are the test part.

    Looked for as core50_128x128/s1/o1/C_01_01_000.png, ... under data_root or its folder core50. categories: 10
    classes instead of 50. mean and std are ImageNet's, as pretrained networks have it.
    """

    name = "core50"
    shape = (3, 128, 128)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, categories: bool = False) -> None:
        self.categories = categories
        self.num_classes = OBJECTS // 5 if categories else OBJECTS

    def places(self, root: Path) -> list[Path]:
        return [root / "core50", root]

    def home(self, root: Path) -> Path:
        """The folder that holds images and file lists. Raises MissingData."""
        for place in self.places(root):
            if (place / IMAGES).is_dir():
                return place
        looked = ", ".join(str(place / IMAGES) for place in self.places(root))
        raise MissingData(
            f"the images of core50 are in none of: {looked}\n"
            f"get core50_128x128.zip and the file lists from the authors' page and unpack them in {root / 'core50'}"
        )

    def files(self, root: Path) -> list[Path]:
        """The folders of each object in each session."""
        home = self.home(root)
        folders = sorted((home / IMAGES).glob("s*/o*"), key=lambda path: (number(path.parent.name), number(path.name)))
        if not folders:
            raise MissingData(f"{home / IMAGES} has no folders s1/o1, ...; unpack core50_128x128.zip again")
        return folders

    def paths(self, root: Path, *, train: bool) -> list[str]:
        """The images of one part as the file lists name them, in the order of load()'s rows."""
        return [
            f"{folder.parent.name}/{folder.name}/{image}"
            for folder in self.files(root)
            if (number(folder.parent.name) not in TEST_SESSIONS) == train
            for image in sorted(path.name for path in folder.glob("*.png"))
        ]

    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        train, test = cached(
            self.name, self.files(root), lambda: (self._part(root, True), self._part(root, False)), root
        )
        if not self.categories:
            return train, test
        return Arrays(train.x, train.y // 5), Arrays(test.x, test.y // 5)

    def _part(self, root: Path, train: bool) -> Arrays:
        names, home = self.paths(root, train=train), self.home(root) / IMAGES
        x = room((len(names), *self.shape), root / "cache")
        for row, name in enumerate(shown(names, f"core50, {'training' if train else 'test'} images")):
            x[row] = decode(home / name)
        y = torch.tensor([number(name.split("/")[1]) - 1 for name in names], dtype=torch.int64)
        return Arrays(torch.from_numpy(x), y)


def number(name: str) -> int:
    """3 of s3 and of o3. Raises DamagedData for other names."""
    if not name[1:].isdigit():
        raise DamagedData(f"{name}: no session and no object; core50's folders are s1/o1 to s11/o50")
    return int(name[1:])


def object_class(image: str) -> int | None:
    """0..49 of s1/o1/C_01_01_000.png as the lists write it; None where the name is none of them."""
    found = re.fullmatch(r"s\d+/o(\d+)/[^/]+", image)
    return int(found[1]) - 1 if found and 1 <= int(found[1]) <= OBJECTS else None


def decode(path: Path) -> np.ndarray:
    """An image file as [3, 128, 128] bytes. Raises DamagedData with what was found."""
    from PIL import Image  # noqa: PLC0415 - of use here alone

    try:
        # PNG alone: for other formats, whatever the file is called, Pillow may start other programs.
        with Image.open(path, formats=["PNG"]) as image:
            size = image.size
            pixels = np.asarray(image.convert("RGB")) if size == (128, 128) else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # by the place of the damage
        raise DamagedData(f"{path}: not a whole image ({error}); unpack core50_128x128.zip again") from error
    if pixels is None:
        raise DamagedData(f"{path}: an image of {size[0]}x{size[1]}, expected 128x128")
    return pixels.transpose(2, 0, 1)
