"""The small convolutional net."""

from __future__ import annotations

import pytest
import torch

from clx.model.simple_cnn import SimpleCNN


def test_number_of_parameters() -> None:
    """3x3 convolutions 3-32-32 and 32-64-64, a 1x1 convolution 64-64, a linear layer 64-10, each with biases."""
    first = (3 * 9 + 1) * 32 + (32 * 9 + 1) * 32
    second = (32 * 9 + 1) * 64 + (64 * 9 + 1) * 64
    expected = first + second + (64 + 1) * 64 + (64 + 1) * 10
    assert sum(p.numel() for p in SimpleCNN().parameters()) == expected == 70_378


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("side", [10, 28])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_allowed_size(side: int, channels: int, training: bool) -> None:
    """A batch of one too."""
    model = SimpleCNN(num_classes=4, in_channels=channels, image_size=side).train(training)
    x = torch.zeros(1, channels, side, side)
    assert model.features(x).shape == (1, model.feature_dim) == (1, 64)
    assert model(x).shape == (1, 4)


def test_images_that_are_too_small_are_refused() -> None:
    """9 pixels become 9, 7, 3, 3, 1 and then none, so 10 is the least."""
    with pytest.raises(ValueError, match=r"^image_size 9 < 10 pixels"):
        SimpleCNN(image_size=9)
    with pytest.raises(RuntimeError):
        SimpleCNN()(torch.zeros(1, 3, 9, 9))


def test_features_are_the_largest_responses() -> None:
    """Global max pooling: a constant image has the same responses, inside and at its border, at any size."""
    model = SimpleCNN().eval()
    small, large = (model.features(torch.ones(1, 3, side, side)) for side in (28, 32))
    torch.testing.assert_close(small, large)
