"""Any classification network of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from clx.model.packaged import Packaged, fetched, unknown_weights
from clx.runtime.torchvision import torchvision


class TorchvisionNet(Packaged):
    """A network of torchvision.models by its name. weights: null, a file, default, or torchvision's name of them."""

    package = "torchvision"

    def names(self) -> Sequence[str]:
        return torchvision.models.list_models(module=torchvision.models)

    def build(self, name: str, weights: str | None, **options: Any) -> nn.Module:
        make = torchvision.models.get_model
        if weights is None or Path(weights).is_file():
            slow = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}  # or they warn
            return _single_output(make(name, weights=None, **options, **slow))
        known = [entry.name for entry in torchvision.models.get_model_weights(name)]
        if weights.lower() != "default" and weights not in known:
            raise unknown_weights(weights, ["default", *known])
        chosen = weights.upper() if weights.lower() == "default" else weights
        return _single_output(fetched(lambda: make(name, weights=chosen, **options), weights))

    def resized(self, name: str, weights: str | None, side: tuple[int, int]) -> nn.Module | None:
        square = side[0] == side[1]
        return self.build(name, weights, image_size=side[0]) if name.startswith("vit_") and square else None

    def classifier_name(self, body: nn.Module) -> str:
        linear = [name for name, module in body.named_modules() if isinstance(module, nn.Linear)]
        if linear:
            return linear[-1]
        return [name for name, module in body.named_modules() if isinstance(module, nn.Conv2d)][-1]


def _single_output(net: nn.Module) -> nn.Module:
    """Without the auxiliary classifiers of the inception family, which would answer in training."""
    if hasattr(net, "aux_logits"):
        vars(net)["aux_logits"] = False
        for name in ("aux1", "aux2", "AuxLogits"):
            if hasattr(net, name):
                setattr(net, name, None)
    return net
