"""Any classification network of pytorchcv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from clx.model.packaged import Packaged, Shape, fetched, replace, unknown_weights
from clx.runtime.torchvision import torchvision  # should pytorchcv import it, then through this door


def _provider() -> Any:
    assert torchvision is not None
    try:
        from pytorchcv import model_provider  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pytorchcv is not installed; pip install 'clx[pytorchcv]'") from error
    return model_provider


class PytorchcvNet(Packaged):
    """A network of pytorchcv by its name. weights: null, a file, or default. Its last pooling becomes a global one,
    which is the same at the network's own size."""

    package = "pytorchcv"

    def __init__(
        self,
        num_classes: int = 10,
        name: str = "resnet20_cifar10",
        weights: str | None = None,
        input_shape: Shape = (3, 32, 32),
    ) -> None:
        super().__init__(num_classes, name, weights, input_shape)

    def names(self) -> Sequence[str]:
        return list(_provider()._models)

    def build(self, name: str, weights: str | None) -> nn.Module:
        make = _provider().get_model
        if weights is None or Path(weights).is_file():
            net = make(name, pretrained=False)
        elif weights.lower() != "default":
            raise unknown_weights(weights, ["default"])
        else:
            net = fetched(lambda: make(name, pretrained=True), weights)
        if not hasattr(net, "output") or not hasattr(net, "features"):
            raise ValueError(f"name {name!r}: not a classification network; choose one with features and an output")
        self.native_size = net.in_size[0]
        last = [name for name, module in net.named_modules() if isinstance(module, nn.AvgPool2d)]
        for pool in last:
            if pool == "features.final_pool" or pool.startswith("output."):
                replace(net, pool, nn.AdaptiveAvgPool2d(1))
        return net

    def classifier_name(self, body: nn.Module) -> str:
        inside = [(name, m) for name, m in body.named_modules() if name == "output" or name.startswith("output.")]
        normed = any(isinstance(m, nn.BatchNorm2d) for _, m in inside)  # of the scores: nothing can be taken out
        for kind in (nn.Linear, nn.Conv2d):
            found = [name for name, m in inside if isinstance(m, kind)]
            if found and not normed:
                return found[-1]
        return "output"
