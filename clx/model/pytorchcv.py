"""Any classification network of pytorchcv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from clx.model.packaged import (
    Packaged,
    Shape,
    Size,
    Through,
    fetched,
    last_layer,
    load,
    local_file,
    read,
    replace,
    unknown_weights,
)
from clx.runtime.torchvision import torchvision  # pytorchcv imports it, and it must come through this door


class PytorchcvNet(Packaged):
    """A network of pytorchcv by its name. weights: null, a file, or default. Its last pooling becomes a global one,
    which is the same at the network's own size."""

    package = "pytorchcv"
    made_to_size = False

    def __init__(
        self,
        num_classes: int = 10,
        name: str = "resnet20_cifar10",
        weights: str | None = None,
        input_shape: Shape = (3, 32, 32),
    ) -> None:
        names = list(_provider()._models)
        if weights is not None and local_file(weights) is None and name in names:
            known = ["default"] if name in _store().get_model_metainfo_dict() else []
            if weights not in known:
                raise unknown_weights(weights, known)
        super().__init__(num_classes, name, weights, input_shape, names)

    def native_size(self, name: str) -> Size:
        try:
            with torch.device("meta"):  # nothing is allocated or drawn
                net: Any = _provider().get_model(name)
        except ModuleNotFoundError as error:  # the networks for sound
            raise ValueError(f"name {name}: not a classification network (it needs {error.name})") from error
        layers = [
            module for module in getattr(net, "output", net).modules() if isinstance(module, nn.Linear | nn.Conv2d)
        ]
        if not layers or not all(hasattr(net, part) for part in ("features", "output", "in_size", "num_classes")):
            raise ValueError(f"name {name}: not a classification network; choose one with features and one output")
        height, width = net.in_size
        return (height, width)

    def build(self, name: str, shape: Shape) -> nn.Module:
        net: nn.Module = _provider().get_model(name, in_channels=shape[0])
        poolings = [pool for pool, module in net.named_modules() if isinstance(module, nn.AvgPool2d)]
        for pool in poolings:
            if pool == "features.final_pool" or pool.startswith("output."):
                replace(net, pool, nn.AdaptiveAvgPool2d(1))
        return replace(net, _classifier(net), Through())

    def loaded(self, body: nn.Module, name: str, weights: str, shape: Shape) -> nn.Module:
        path = local_file(weights) or Path(fetched(lambda: _store().get_model_file(name), weights))
        load(body, read(path), weights, shape)
        return body


def _provider() -> Any:
    assert torchvision is not None
    try:
        from pytorchcv import model_provider  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pytorchcv is not installed; pip install 'clx[pytorchcv]'") from error
    return model_provider


def _store() -> Any:
    from pytorchcv.models.common import model_store  # noqa: PLC0415 - the same

    return model_store


def _classifier(net: nn.Module) -> str:
    """The layer of the class scores, or the whole output where these are normalised."""
    name = last_layer(net, inside="output")
    after = [other for other, _ in net.named_modules()]
    rest = after[after.index(name) + 1 :]
    normed = any(isinstance(net.get_submodule(other), nn.BatchNorm2d) for other in rest if other.startswith("output"))
    return "output" if normed else name
