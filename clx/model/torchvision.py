"""Any classification network of torchvision."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

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
    with_channels,
)
from clx.runtime.torchvision import torchvision

AUXILIARY = ("aux1", "aux2", "AuxLogits")  # classifiers of the inception family that answer in training


class TorchvisionNet(Packaged):
    """A network of torchvision.models by its name. weights: null, a file, default, or torchvision's name of them.

    googlenet and inception_v3 with weights, on three channels, turn ImageNet's normalisation into their own.
    """

    package = "torchvision"

    def __init__(
        self,
        num_classes: int = 10,
        name: str = "resnet18",
        weights: str | None = None,
        input_shape: Shape = (3, 224, 224),
    ) -> None:
        models = torchvision.models
        names = models.list_models(module=models)
        if weights is not None and local_file(weights) is None and name in names:
            known = ["default", *(entry.name for entry in models.get_model_weights(name))]
            if weights not in known:
                raise unknown_weights(weights, known)
        self.made_to_size = name.startswith(("vit_", "maxvit_"))
        super().__init__(num_classes, name, weights, input_shape, names)

    def native_size(self, name: str) -> Size:
        return (224, 224)

    def build(self, name: str, shape: Shape) -> nn.Module:
        channels, height, width = shape
        options: dict[str, Any] = {}
        if name.startswith("vit_"):
            if height != width:
                raise ValueError("it takes square images alone")
            options["image_size"] = height
        elif name.startswith("maxvit_"):
            options["input_size"] = (height, width)
        elif name in ("googlenet", "inception_v3"):
            options |= {"init_weights": True, "aux_logits": False}  # without the first it warns
        net = torchvision.models.get_model(name, weights=None, **options)
        _take_channels(net, channels)
        return replace(net, last_layer(net), Through())

    def loaded(self, body: nn.Module, name: str, weights: str, shape: Shape) -> nn.Module:
        path = local_file(weights)
        state = read(path) if path is not None else fetched(lambda: _downloaded(name, weights), weights)
        if name.startswith("densenet"):  # published before submodules lost their dots
            renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): key for key in state}
            state = {new: state[old] for new, old in renamed.items()}
        if name.startswith("vit_") and "encoder.pos_embedding" in state:
            patch: Any = body.patch_size
            interpolate = torchvision.models.vision_transformer.interpolate_embeddings
            state = interpolate(shape[1], patch, state)
        load(body, state, weights, shape, spare=AUXILIARY)
        if hasattr(body, "transform_input"):
            vars(body)["transform_input"] = shape[0] == 3
        return body


def _downloaded(name: str, weights: str) -> dict[str, Tensor]:
    entry = torchvision.models.get_model_weights(name)["DEFAULT" if weights == "default" else weights]
    return entry.get_state_dict(progress=True, check_hash=True)


def _take_channels(net: nn.Module, channels: int) -> None:
    """Another number of channels for the first convolution, in place."""
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    if conv.in_channels == channels:
        return
    conv.weight = nn.Parameter(with_channels(conv.weight, channels))
    conv.in_channels = channels
