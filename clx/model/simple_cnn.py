"""The small convolutional net of the continual-learning literature."""

from __future__ import annotations

from torch import Tensor, nn

from clx.model.base import Model

SMALLEST = 10  # pixels: below, the second unpadded convolution has nothing left to see


def _block(channels: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
    ]


class SimpleCNN(Model):
    """Two blocks of two 3x3 convolutions (32, 64), a 1x1 convolution, global max pooling, a linear classifier.

    SimpleCNN() has 70,378 parameters. in_channels: of the images; image_size: their side in pixels (None =
    not checked), at least 10.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int | None = None) -> None:
        super().__init__()
        if image_size is not None and image_size < SMALLEST:
            raise ValueError(
                f"image_size {image_size} < {SMALLEST} pixels, the least that SimpleCNN takes; "
                "set benchmark.image_size=16 or more"
            )
        self.body = nn.Sequential(
            *_block(in_channels, 32),
            *_block(32, 64),
            nn.Conv2d(64, 64, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveMaxPool2d(1),
            nn.Dropout(0.25),
            nn.Flatten(),
        )
        self.feature_dim = 64
        self.classifier: nn.Module = nn.Sequential(nn.Linear(64, num_classes))

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)
