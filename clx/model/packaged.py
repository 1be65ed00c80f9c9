"""What networks of other packages share: fitted to the benchmark's images, their classifier off, weights from files."""

from __future__ import annotations

import contextlib
import copy
import difflib
import io
import textwrap
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from clx.model.base import Model

Shape = tuple[int, int, int]
Size = tuple[int, int]
T = TypeVar("T")
# What networks raise for images that do not fit, or that were not thought of.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class Packaged(Model):
    """A network by its name in some package; subclasses say how it is built and how weights get into it.

    name: of the network. weights: null = random, a local file of a state_dict, or a name that the package knows.
    input_shape: (C, H, W) of the images; where the network would leave out their last row or column they get a frame
    of zeros, the least that helps, unless they have the size that the network was made for. Raises ValueError for
    a name or weights that do not exist, weights that cannot be fetched, and images that the network cannot take.
    """

    package: str
    made_to_size = True  # the network depends on the size of its images; else it is built once

    def __init__(
        self, num_classes: int, name: str, weights: str | None, input_shape: Shape, names: Sequence[str]
    ) -> None:
        super().__init__()
        if name not in names:
            raise ValueError(f"name {name}: {self.package} has no such network{nearest(name, names)}")
        with torch.random.fork_rng(devices=[], enabled=weights is not None):  # what is loaded needs no draws
            self.body, self.padding, self.feature_dim = self._fit(name, input_shape)
            if weights is not None:
                right, bottom = self.padding
                shape = (input_shape[0], input_shape[1] + bottom, input_shape[2] + right)
                self.body = self.loaded(self.body, name, weights, shape)
        self.classifier: nn.Module = nn.Linear(self.feature_dim, num_classes)

    @abstractmethod
    def build(self, name: str, shape: Shape) -> nn.Module:
        """The network without its classifier, for images of that shape (C, H, W), with random weights."""

    @abstractmethod
    def loaded(self, body: nn.Module, name: str, weights: str, shape: Shape) -> nn.Module:
        """What build gave for that shape, with weights: a file, or a name of the package's."""

    @abstractmethod
    def native_size(self, name: str) -> Size:
        """(H, W) that the network was made for."""

    def _fit(self, name: str, shape: Shape) -> tuple[nn.Module, Size, int]:
        """The body, the padding (right and left, bottom and top together) and the number of features."""
        channels, height, width = shape
        native = self.native_size(name)
        body: nn.Module | None = None
        reason, patch = "", 1
        for size in sizes(height, width):
            if size[0] % patch or size[1] % patch:
                continue
            padding = (size[1] - width, size[0] - height)
            try:
                if body is None or self.made_to_size:
                    with warnings.catch_warnings():  # smaller than a patch; the next size is tried
                        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
                        body = self.build(name, (channels, *size))
                patch = patch_size(body)
                features = probe(body, shape, padding)
            except REFUSALS as error:
                reason = reason or shorten(error)
                continue
            if size == native or bool(features.isnan().any(1).all()):
                return body, padding, features.shape[1]
            reason = reason or "it would leave out the last row or column"
        advice = "" if (height, width) == native else f"set benchmark.image_size={native[0]}, with "
        advice += "benchmark.resize=interpolate to enlarge the image instead of its frame, or " if advice else ""
        raise ValueError(f"input_shape {tuple(shape)}: {name} cannot take such images ({reason}); {advice}"
                         "choose another network")  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        return self.body(framed(x, self.padding)).flatten(1)


class Through(nn.Module):
    """The identity, in the place of a classifier; in memory of its own: an activation in place may follow."""

    def forward(self, x: Tensor) -> Tensor:
        """x, copied."""
        return x.clone()


def sizes(height: int, width: int) -> list[Size]:
    """The size itself, a few pixels more, and the next multiples of usual patches and strides, in this order."""
    more = {(height + extra, width + extra) for extra in range(4)}
    whole = {(-(-height // step) * step, -(-width // step) * step) for step in (8, 14, 16, 32)}
    return sorted(more | whole)


def framed(x: Tensor, padding: Size) -> Tensor:
    """x [B, C, H, W] with zeros around it; padding: pixels more in width and in height."""
    right, bottom = padding
    if not right and not bottom:
        return x
    return functional.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))


@torch.no_grad()
def probe(body: nn.Module, shape: Shape, padding: Size) -> Tensor:
    """Features [2, D] of an image with NaN in its last row, and of one with NaN in its last column; zeros elsewhere.

    A network that sees these pixels answers with NaN. Tried in training mode too, where some refuse what they take in
    eval mode; buffers and random numbers stay what they were.
    """
    empty = torch.zeros(2, *shape)
    images = empty.clone()
    images[0, :, -1], images[1, :, :, -1] = float("nan"), float("nan")
    before = [buffer.clone() for buffer in body.buffers()]
    with torch.random.fork_rng(devices=[]):
        features = body.eval()(framed(images, padding))
        outputs = (features, body.train()(framed(empty, padding)))
    for buffer, value in zip(body.buffers(), before, strict=True):
        buffer.copy_(value)
    if not all(isinstance(output, Tensor) for output in outputs):
        raise TypeError("it has several outputs")
    return features.flatten(1)


def patch_size(body: nn.Module) -> int:
    """The side of the patches that the first convolution cuts the image into; 1 where it does not."""
    conv = next((module for module in body.modules() if isinstance(module, nn.Conv2d)), None)
    if conv is None or conv.kernel_size != conv.stride or conv.kernel_size[0] != conv.kernel_size[1]:
        return 1
    return conv.stride[0]


# -- the classifier and the channels ----------------------------------------------------------------------------


def replace(body: nn.Module, name: str, other: nn.Module) -> nn.Module:
    """The network with another module under that dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(body.get_submodule(parent), child, other)
    return body


def last_layer(body: nn.Module, inside: str = "") -> str:
    """The dotted name of the last linear layer, or where there is none of the last convolution, below `inside`."""
    below = [(name, module) for name, module in body.named_modules() if f"{name}.".startswith(inside and f"{inside}.")]
    for kind in (nn.Linear, nn.Conv2d):
        found = [name for name, module in below if isinstance(module, kind)]
        if found:
            return found[-1]
    raise ValueError("it ends in no linear layer and no convolution")


@torch.no_grad()
def with_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution's weight [out, C, h, w] for that many channels: [out, channels, h, w].

    One channel gets the sum over C. More get the old ones in turn, times C / channels, and all the same correction,
    zero where C divides channels: the response to equal channels stays as it was.
    """
    old = weight.shape[1]
    turns = weight[:, [channel % old for channel in range(channels)]] * (old / channels)
    return turns + (weight.sum(1, keepdim=True) - turns.sum(1, keepdim=True)) / channels


# -- weights ----------------------------------------------------------------------------------------------------


def local_file(weights: str | None) -> Path | None:
    """The file of that name, if there is one."""
    path = Path(weights).expanduser() if weights else None
    return path if path is not None and path.is_file() else None


def read(path: Path) -> dict[str, Tensor]:
    """The state_dict in a file, or under "state_dict" in it. Nothing in the file is executed."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415 - comes with timm

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state) if isinstance(state, Mapping) else state
        if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
            raise TypeError(type(state).__name__)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("safetensors is not installed; pip install 'clx[timm]'") from error
    except Exception as error:
        raise ValueError(f"weights {path}: not a file of names and tensors ({type(error).__name__})") from error
    shallow: Any = copy.copy(state)  # with the versions of the modules, which a dict of its items lacks
    return shallow


def load(body: nn.Module, state: dict[str, Tensor], weights: str, shape: Shape, spare: Sequence[str] = ()) -> None:
    """Put a state_dict into a body; entries of its classifier, and of what `spare` names, are left out.

    Convolutions that see the image take the weights of other numbers of channels.
    """
    taken_off = [name for name, module in body.named_modules() if isinstance(module, Through)]
    left_out = tuple(f"{name}." for name in (*taken_off, *spare))
    own = body.state_dict()
    for name in list(state):
        if name.startswith(left_out):
            del state[name]
        elif name in own and _other_channels(state[name], own[name], shape[0]):
            state[name] = with_channels(state[name], shape[0])
    try:
        result = body.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        raise misfit(weights, shorten(error)) from error
    wrong = [f"{name} is missing" for name in result.missing_keys]
    wrong += [f"{name} is too many" for name in result.unexpected_keys]
    if wrong:
        raise misfit(weights, ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if wrong[3:] else ""))


def _other_channels(theirs: Tensor, own: Tensor, channels: int) -> bool:
    if theirs.ndim != 4 or own.ndim != 4 or theirs.shape[1] == own.shape[1]:
        return False
    same = theirs.shape[0] == own.shape[0] and theirs.shape[2:] == own.shape[2:]
    return same and own.shape[1] == channels and theirs.shape[1] in (1, 3)


def misfit(weights: str, reason: str) -> ValueError:
    """The error for weights of another network."""
    return ValueError(f"weights {weights}: of another network ({reason}); give a file that fits, or null for random")


def unknown_weights(weights: str, known: Sequence[str]) -> ValueError:
    """The error for a value that is neither a file nor a name."""
    names = f"one of {', '.join(known)}" if known else "a name that the package knows for this network"
    return ValueError(
        f"weights {weights}: neither a file nor {names}; give a path, or null for random{nearest(weights, known)}"
    )


def fetched(make: Callable[[], T], weights: str) -> T:
    """make(), which downloads and prints; ValueError in one line where that fails."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return make()
    except Exception as error:
        raise ValueError(
            f"weights {weights}: could not be downloaded ({type(error).__name__}: {shorten(error)}); "
            "give a local file, or null for random weights"
        ) from error


def shorten(error: BaseException) -> str:
    """What the error says, in a line of at most 120 characters."""
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("Error(s) in loading")]
    return textwrap.shorten(" ".join(lines), 120, placeholder="...") or type(error).__name__


def nearest(name: str, known: Sequence[str]) -> str:
    """ "; did you mean A or B?" where known names are close, else nothing."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
