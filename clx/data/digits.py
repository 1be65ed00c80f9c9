"""UCI handwritten digits, 8x8: the data set inside the package (attribution in digits.txt)."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from clx.data.dataset import Arrays, DataSet

FILE = Path(__file__).with_name("digits.csv.gz")


class Digits(DataSet):
    """1,797 images of 8x8 pixels in 10 classes. Alpaydin & Kaynak 1998, https://doi.org/10.24432/C50P49.

    The source has no split: here the first four fifths of each class, in file order, are for training
    (1,433), the rest for testing (364). Pixels 0..16 are stored as 0..255.
    """

    name = "digits"
    shape = (1, 8, 8)
    num_classes = 10
    mean = (0.3054,)  # of the training part
    std = (0.3753,)

    def files(self, root: Path) -> list[Path]:
        return [FILE]

    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        with gzip.open(FILE, "rt") as lines:
            table = torch.from_numpy(np.loadtxt(lines, delimiter=",", dtype=np.int64))
        x = (table[:, :64] * 255 / 16).round().to(torch.uint8).reshape(-1, *self.shape)
        y = table[:, 64]
        is_test = torch.zeros(len(y), dtype=torch.bool)
        for label in range(self.num_classes):
            rows = (y == label).nonzero().squeeze(1)
            is_test[rows[len(rows) * 4 // 5 :]] = True
        return Arrays(x[~is_test], y[~is_test]), Arrays(x[is_test], y[is_test])
