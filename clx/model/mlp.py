"""Multi-layer perceptrons of any depth and widths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from clx.model.base import Model

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


class MLP(Model):
    """[Linear, BatchNorm where asked for, activation, Dropout] for each width, and a linear classifier.

    input_size: values of one input (C * H * W). hidden_sizes: units of each hidden layer; none = a linear model on
    the inputs. drop_rate in [0, 1].
    """

    def __init__(
        self,
        num_classes: int = 10,
        input_size: int = 28 * 28,
        hidden_sizes: Sequence[int] = (400, 400),
        activation: Literal["relu", "tanh", "gelu"] = "relu",
        batch_norm: bool = False,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        for width in hidden_sizes:
            if width < 1:
                raise ValueError(f"hidden_sizes {list(hidden_sizes)}: each layer needs at least one unit")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if not 0 <= drop_rate <= 1:
            raise ValueError(f"drop_rate {drop_rate} is outside [0, 1]")
        widths = [input_size, *hidden_sizes]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers.append(nn.Linear(before, after))
            if batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers += [ACTIVATIONS[activation](), nn.Dropout(drop_rate)]
        self.body = nn.Sequential(*layers)
        self.feature_dim = widths[-1]
        self.classifier: nn.Module = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)
