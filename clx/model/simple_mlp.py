"""The multi-layer perceptron of the continual-learning literature."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from clx.model.base import Model


class SimpleMLP(Model):
    """[Linear, ReLU, Dropout] x hidden_layers and a linear classifier; SimpleMLP() has 407,050 parameters.

    input_size: values of one input (C * H * W); hidden_size: units of each hidden layer; drop_rate in [0, 1].
    """

    def __init__(
        self,
        num_classes: int = 10,
        input_size: int = 28 * 28,
        hidden_size: int = 512,
        hidden_layers: int = 1,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__()
        if hidden_size < 1:
            raise ValueError(f"hidden_size {hidden_size} < 1")
        if hidden_layers < 1:
            raise ValueError(f"hidden_layers {hidden_layers} < 1")
        if not 0 <= drop_rate <= 1:
            raise ValueError(f"drop_rate {drop_rate} is outside [0, 1]")
        widths = [input_size] + [hidden_size] * hidden_layers
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(drop_rate)]
        self.body = nn.Sequential(*layers)
        self.feature_dim = hidden_size
        self.classifier: nn.Module = nn.Linear(hidden_size, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)
