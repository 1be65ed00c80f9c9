"""Batch normalisation where a batch leaves a single value for each channel."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _BearsOne:
    """Mixed into a BatchNorm class: one value has no variance, so it is normalised by the running statistics."""

    training: bool

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.training or x.numel() != x.shape[1]:
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        self.training = False
        try:
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        finally:
            self.training = True

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles name the class that this one was mixed into."""
        return _rebuilt, (type(self).__mro__[2],), self.__dict__


def _bearing(kind: type) -> type:
    return type(kind.__name__, (_BearsOne, kind), {})


def _rebuilt(kind: type) -> Any:
    return object.__new__(_bearing(kind))


def bear_single_samples(module: nn.Module) -> None:
    """Let every BatchNorm in the module take a batch that leaves one value for each channel (a last batch of one).

    torch refuses such a batch in train mode. Nothing else changes: neither parameters nor their names, nor what
    larger batches give.
    """
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and not isinstance(layer, _BearsOne) and layer.track_running_stats:
            layer.__class__ = _bearing(type(layer))
