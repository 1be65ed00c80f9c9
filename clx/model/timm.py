"""Any network of timm."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from torch import nn

from clx.model.packaged import Packaged, fetched, unknown_weights
from clx.runtime.torchvision import torchvision  # timm imports it, and it must come through this door


def _timm() -> Any:
    assert torchvision is not None
    try:
        import timm  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("timm is not installed; pip install 'clx[timm]'") from error
    return timm


def _do_not_wait_for_nobody() -> None:
    """Without a network take what is in the hub's cache, or nothing, at once: its client would retry for a minute."""
    from huggingface_hub import constants  # noqa: PLC0415 - comes with timm

    if getproxies():
        return
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True


class TimmNet(Packaged):
    """A network of timm by its name, with a tag or without. weights: null, a file, default, or a tag of timm's."""

    package = "timm"

    def names(self) -> Sequence[str]:
        return _timm().list_models()

    def build(self, name: str, weights: str | None, **options: Any) -> nn.Module:
        timm = _timm()
        pretrained = weights is not None and not Path(weights).is_file()
        if pretrained:
            assert weights is not None
            plain = name.split(".", maxsplit=1)[0]
            tags = [
                known.partition(".")[2] for known in timm.list_pretrained(f"{plain}*") if known.startswith(f"{plain}.")
            ]
            if weights.lower() != "default" and weights not in tags:
                raise unknown_weights(weights, ["default", *tags])
            name = name if weights.lower() == "default" else f"{plain}.{weights}"

        def make() -> nn.Module:
            return timm.create_model(name, pretrained=pretrained, **options)

        if pretrained:
            _do_not_wait_for_nobody()
        net: Any = fetched(make, str(weights)) if pretrained else make()
        self.native_size = net.default_cfg.get("input_size", (3, 224, 224))[1]
        return net

    def resized(self, name: str, weights: str | None, side: tuple[int, int]) -> nn.Module | None:
        try:
            return self.build(name, weights, img_size=side)
        except TypeError:  # a network without positions
            return None

    def classifier_name(self, body: nn.Module) -> str:
        names: Any = body.default_cfg["classifier"]  # type: ignore[index]  # timm's networks have it
        return names if isinstance(names, str) else names[0]

    def without_classifier(self, body: nn.Module) -> nn.Module:
        body.reset_classifier(0)  # type: ignore[operator]  # the same
        return body
