"""Networks of other packages as models of clx: their classifier off, their inputs fitted to the benchmark."""

from __future__ import annotations

import difflib
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clx.model.base import Model

Shape = tuple[int, int, int]


class Packaged(Model):
    """A network by its name in some package; subclasses say how it is built and what its classifier is called.

    name: of the network. weights: null = random, a local file of a state_dict, or a name that the package knows;
    "default" is its own choice. input_shape: (C, H, W) of the images. The first convolution takes C channels; images
    are padded with zeros up to a whole number of patches, never cropped. Raises ValueError for a name or weights that
    do not exist, weights that cannot be fetched, and images that the network cannot take.
    """

    package: str
    native_size = 224  # what a package's network is made for; subclasses set it when they build one

    def __init__(
        self,
        num_classes: int = 10,
        name: str = "resnet18",
        weights: str | None = None,
        input_shape: Shape = (3, 224, 224),
    ) -> None:
        super().__init__()
        names = self.names()
        if name.split(".", maxsplit=1)[0] not in names:
            raise ValueError(f"name {name!r}: {self.package} has no such network{_nearest(name, names)}")
        self.padding = (0, 0)  # right and left, bottom and top together
        with torch.random.fork_rng(devices=[], enabled=weights is not None):  # what is loaded needs no draws
            body = self.build(name, weights)
            try:
                self.feature_dim = self._fit(body, name, weights, input_shape)
            except (RuntimeError, AssertionError) as error:
                reason = str(error).splitlines()[0][:120]
                raise ValueError(
                    f"input_shape {tuple(input_shape)}: {name} cannot take such images ({reason}); set "
                    f"benchmark.image_size={self._size_that_fits(body)} (benchmark.resize=interpolate enlarges the "
                    "image instead of its frame), or choose another network"
                ) from error
        self.classifier: nn.Module = nn.Linear(self.feature_dim, num_classes)

    @abstractmethod
    def names(self) -> Sequence[str]:
        """The networks that the package has."""

    @abstractmethod
    def build(self, name: str, weights: str | None) -> nn.Module:
        """The complete network as the package makes it, with weights of the package where they are named."""

    def resized(self, name: str, weights: str | None, side: tuple[int, int]) -> nn.Module | None:
        """The same made for images of that side (H, W); None where the network does not depend on it."""
        return None

    @abstractmethod
    def classifier_name(self, body: nn.Module) -> str:
        """The dotted name of the layer that gives the class scores."""

    def without_classifier(self, body: nn.Module) -> nn.Module:
        """The network with the identity in the place of its classifier."""
        return replace(body, self.classifier_name(body), Through())

    @torch.no_grad()
    def _fit(self, body: nn.Module, name: str, weights: str | None, shape: Shape) -> int:
        """Make `body` of the network for such images; returns the number of features, found by trying."""
        patch, (channels, height, width) = patch_size(body), shape
        padded = (math.ceil(height / patch) * patch, math.ceil(width / patch) * patch)
        self.padding = (padded[1] - width, padded[0] - height)
        if padded != (self.native_size, self.native_size):
            body = self.resized(name, weights, padded) or body
        if weights is not None and Path(weights).is_file():
            load_file(body, Path(weights), self.classifier_name(body))
        fit_channels(body, channels, padded)
        self.body = self.without_classifier(body).eval()
        count = self.features(torch.zeros(2, *shape)).shape[1]
        self.body.train()
        return count

    @torch.no_grad()
    def _size_that_fits(self, body: nn.Module) -> int:
        """The least of some usual sides of images that the network takes as the package makes it."""
        for size in (32, 64, 96, 128):
            try:
                body.eval()(torch.zeros(2, 3, size, size))
            except (RuntimeError, AssertionError, ValueError):
                continue
            return size
        return self.native_size

    def features(self, x: Tensor) -> Tensor:
        right, bottom = self.padding
        if right or bottom:
            x = functional.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        return self.body(x).flatten(1)


class Through(nn.Module):
    """The identity, in memory of its own: an activation in place may follow."""

    def forward(self, x: Tensor) -> Tensor:
        """x, copied."""
        return x.clone()


def fetched(make: Callable[[], nn.Module], weights: str) -> nn.Module:
    """make(), which downloads; ValueError in one line where that fails."""
    try:
        return make()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:100]
        raise ValueError(
            f"weights {weights}: could not be downloaded ({type(error).__name__}: {reason}); "
            "give a local file, or null for random weights"
        ) from error


def unknown_weights(weights: str, known: Sequence[str]) -> ValueError:
    """The error for a value that is neither a file nor a name."""
    names = ", ".join(known) if known else "none that the package knows"
    return ValueError(f"weights {weights}: neither a file nor one of {names}{_nearest(weights, known)}")


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def first_convolution(body: nn.Module) -> nn.Conv2d | None:
    """The convolution that sees the image."""
    return next((module for module in body.modules() if isinstance(module, nn.Conv2d)), None)


def patch_size(body: nn.Module) -> int:
    """The side of the patches that the first convolution cuts the image into; 1 where it does not."""
    conv = first_convolution(body)
    if conv is None or conv.kernel_size != conv.stride or conv.kernel_size[0] != conv.kernel_size[1]:
        return 1
    return conv.stride[0]


@torch.no_grad()
def fit_channels(body: nn.Module, channels: int, side: tuple[int, int]) -> None:
    """Let the convolutions that see the image take that many channels, with the response to equal channels they had.

    Each new channel gets the sum of the old weights over the channels, divided by the number of new ones.
    """
    first = first_convolution(body)
    if first is None or first.in_channels == channels:
        return
    for conv in _seeing(torch.zeros(2, first.in_channels, *side), body):
        if conv.groups != 1:
            raise ValueError(f"input_shape ({channels}, ...): this network takes {conv.in_channels} channels alone")
        weight = conv.weight.sum(1, keepdim=True).repeat(1, channels, 1, 1) / channels
        conv.weight, conv.in_channels = nn.Parameter(weight), channels


def _seeing(image: Tensor, body: nn.Module) -> list[nn.Conv2d]:
    """The convolutions that are handed the image itself; some networks begin with several side by side."""
    found: list[nn.Conv2d] = []

    def look(conv: nn.Module, args: tuple[Any, ...]) -> None:
        if args[0] is image and isinstance(conv, nn.Conv2d):
            found.append(conv)

    handles = [m.register_forward_pre_hook(look) for m in body.modules() if isinstance(m, nn.Conv2d)]
    try:
        body.eval()(image)
    finally:
        for handle in handles:
            handle.remove()
    first = first_convolution(body)
    return found or ([] if first is None else [first])


def load_file(body: nn.Module, path: Path, classifier: str) -> None:
    """Load a state_dict, or {"state_dict": ...}; classifier: entries below it may be missing or of another shape."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors  # noqa: PLC0415 - comes with timm

            state: Any = load_safetensors(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        shapes = {name: tuple(value.shape) for name, value in state.items()}
    except Exception as error:
        raise ValueError(f"weights {path}: not a file of weights ({type(error).__name__})") from error
    wanted = {name: tuple(value.shape) for name, value in body.state_dict().items()}
    free = {name for name in wanted | shapes if name.startswith(f"{classifier}.")}
    wrong = [name for name in {**wanted, **shapes} if name not in free and wanted.get(name) != shapes.get(name)]
    if wrong:
        first = "; ".join(f"{name}: {shapes.get(name)} in the file, {wanted.get(name)} here" for name in wrong[:3])
        raise ValueError(f"weights {path}: {len(wrong)} entries do not fit ({first}); are they of this network?")
    body.load_state_dict({k: v for k, v in state.items() if wanted.get(k) == shapes[k]}, strict=False)


def replace(body: nn.Module, name: str, other: nn.Module) -> nn.Module:
    """The network with another module under that dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(body.get_submodule(parent), child, other)
    return body
