"""LeNet-5: its published size, images of 32x32."""

from __future__ import annotations

import pytest
import torch

from clx.model.lenet5 import LeNet5


def test_parameters() -> None:
    """Convolutions 6 (25 + 1), 16 (150 + 1), 120 (400 + 1); layers 84 (120 + 1), 10 (84 + 1)."""
    expected = 6 * 26 + 16 * 151 + 120 * 401 + 84 * 121 + 10 * 85
    assert sum(p.numel() for p in LeNet5().parameters()) == expected == 61_706


def test_forward_of_one_image() -> None:
    assert LeNet5(7, in_channels=3)(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert LeNet5().features(torch.zeros(1, 1, 32, 32)).shape == (1, 84)


@pytest.mark.parametrize("size", [8, 28, 64])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"benchmark\.image_size=32"):
        LeNet5(image_size=size)
