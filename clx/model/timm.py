"""Any network of timm."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from torch import nn

from clx.model.packaged import (
    REFUSALS,
    Packaged,
    Shape,
    Size,
    fetched,
    local_file,
    misfit,
    read,
    shorten,
    unknown_weights,
)
from clx.runtime.torchvision import torchvision  # timm imports it, and it must come through this door


class TimmNet(Packaged):
    """A network of timm by its name, with a tag or without. weights: null, a file, default, or a tag of timm's."""

    package = "timm"

    def __init__(
        self,
        num_classes: int = 10,
        name: str = "resnet18",
        weights: str | None = None,
        input_shape: Shape = (3, 224, 224),
    ) -> None:
        timm = _timm()
        plain, _, tag = name.partition(".")
        tagged = timm.list_pretrained(f"{plain}.*")
        tags = [entry.partition(".")[2] for entry in tagged]
        names = [*timm.list_models(), *tagged]
        if weights is not None and local_file(weights) is None and name in names:
            if weights not in (["default", *tags] if tags else []):
                raise unknown_weights(weights, ["default", *tags] if tags else [])
            if tag and weights not in ("default", tag):
                raise ValueError(f"weights {weights}: name {name} says {tag}; give one of the two")
            name = name if weights == "default" else f"{plain}.{weights}"
        config = timm.get_pretrained_cfg(name) if name in names else None
        self.made_to_size = config is not None and config.fixed_input_size
        self.own_size: Size = (224, 224) if config is None else config.input_size[1:]
        super().__init__(num_classes, name, weights, input_shape, names)

    def native_size(self, name: str) -> Size:
        return self.own_size

    def build(self, name: str, shape: Shape, **options: Any) -> nn.Module:
        options |= {"img_size": shape[1:]} if self.made_to_size else {}
        return _timm().create_model(name, num_classes=0, in_chans=shape[0], **options)

    def loaded(self, body: nn.Module, name: str, weights: str, shape: Shape) -> nn.Module:
        path = local_file(weights)
        if path is None:
            with _no_waiting():
                return fetched(lambda: self.build(name, shape, pretrained=True), weights)
        overlay = _as_pretrained(body, read(path), shape)
        try:
            net: Any = self.build(name, shape, pretrained=True, pretrained_cfg_overlay=overlay)
        except REFUSALS as error:
            raise misfit(weights, shorten(error)) from error
        net.pretrained_cfg.pop("state_dict")  # every weight a second time
        return net


def _timm() -> Any:
    assert torchvision is not None
    try:
        import timm  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("timm is not installed; pip install 'clx[timm]'") from error
    return timm


def _as_pretrained(body: Any, state: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """What timm is to know of a file so that it fits channels and positions as it does for weights of its own.

    Entries of the classifier are left out of the state: the body has none.
    """
    config = body.pretrained_cfg
    own = body.state_dict()
    for classifier in _several(config.get("classifier")):
        inside = f"{classifier.rpartition('.')[0] or classifier}."  # head.l may have its head.bn
        for key in [key for key in state if key.startswith(inside) and key not in own]:
            del state[key]
    channels, *size = config["input_size"]
    for name in _several(config.get("first_conv")):
        weight, conv = state.get(f"{name}.weight"), body.get_submodule(name)
        if weight is not None and weight.ndim == 4 and isinstance(conv, nn.Conv2d):
            channels = weight.shape[1] * conv.groups * shape[0] // conv.in_channels
    return {"state_dict": state, "num_classes": 0, "label_offset": 0, "input_size": (channels, *size),
            "custom_load": False}  # fmt: skip


def _several(names: Any) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


@contextlib.contextmanager
def _no_waiting() -> Iterator[None]:
    """Where the hub cannot be reached take what is in its cache, or nothing: its client would retry for a minute."""
    from huggingface_hub import constants  # noqa: PLC0415 - comes with timm

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(address: str) -> bool:
    """Whether somebody answers there within seconds, whatever the answer."""
    try:
        urlopen(Request(address, method="HEAD"), timeout=5).close()  # noqa: S310 - the hub's own address, https
    except HTTPError:
        return True
    except URLError as error:
        return not isinstance(error.reason, socket.gaierror | ConnectionError | TimeoutError)
    except (TimeoutError, ConnectionError):
        return False
    return True
