"""LeNet-5."""

from __future__ import annotations

from torch import Tensor, nn

from clx.model.base import Model

SIDE = 32  # pixels: what the third convolution, 5x5 on 5x5, is made for


class LeNet5(Model):
    """Three 5x5 convolutions (6, 16, 120) with tanh and average pooling, a layer of 84. LeCun et al. 1998,
    doi:10.1109/5.726791. in_channels: of the images, which are 32x32; image_size: their side (None = not checked).
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int | None = None) -> None:
        super().__init__()
        if image_size is not None and image_size != SIDE:
            raise ValueError(f"image_size {image_size}: LeNet-5 takes {SIDE}x{SIDE}; set benchmark.image_size={SIDE}")
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 120, 5),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(120, 84),
            nn.Tanh(),
        )
        self.feature_dim = 84
        self.classifier: nn.Module = nn.Linear(84, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)
