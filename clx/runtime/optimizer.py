"""torch's optimizers as fast as torch can: one kernel for all parameters where it has one, and without its compiler,
whose import takes as long as that of all the rest of torch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

OTHER_WAYS = ("foreach", "capturable", "differentiable")  # to step, which exclude the fused kernels


def fast(build: Any) -> Any:
    """What builds an optimizer, with the class in it as fast as it can be: a class of torch.optim, or a partial of one;
    anything else is handed back as it is."""
    if isinstance(build, functools.partial):
        return functools.partial(fast(build.func), *build.args, **build.keywords)
    return _fast_class(build) if isinstance(build, type) else build


@functools.cache
def _fast_class(kind: Any) -> Any:
    """The same optimizer as a subclass that is fused where that pays, unless fused is given: Adam, AdamW, and SGD with
    momentum (on a CPU 1.8 to 7 times as fast, and the same up to rounding).

    Its methods are those that torch wraps with `torch._dynamo.disable`; the wrappers matter within torch.compile alone.
    step() opens no region for torch's profiler and calls no step hooks.
    """
    if not (issubclass(kind, torch.optim.Optimizer) and kind.__module__.startswith("torch.optim.")):
        return kind
    raw = inspect.unwrap(kind.step)

    @functools.wraps(kind.__init__)
    def init(self: torch.optim.Optimizer, params: Any, *args: Any, **keys: Any) -> None:
        groups = list(params)
        if keys.get("fused") is None and not any(keys.get(way) for way in OTHER_WAYS) and _pays(kind, groups, keys):
            keys["fused"] = True
        kind.__init__(self, groups, *args, **keys)

    @functools.wraps(raw)
    def step(self: torch.optim.Optimizer, closure: Any = None) -> Any:
        if self.defaults.get("fused"):
            _align(self)
        with torch.set_grad_enabled(self.defaults.get("differentiable", False)):
            return raw(self, closure)

    vars(step)["hooked"] = True  # torch would wrap it again otherwise
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    doc = {"__doc__": kind.__doc__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), {"__init__": init, "step": step, **methods, **doc})


def _pays(kind: type, groups: Iterable[Any], keys: dict[str, Any]) -> bool:
    momentum = kind is torch.optim.SGD and keys.get("momentum") and not keys.get("dampening")
    if kind not in (torch.optim.Adam, torch.optim.AdamW) and not momentum:
        return False
    lists = [group["params"] if isinstance(group, dict) else [group] for group in groups]
    tensors = [tensor for own in lists for tensor in ([own] if isinstance(own, Tensor) else own)]
    return all(isinstance(t, Tensor) and t.is_floating_point() and t.device.type in ("cpu", "cuda") for t in tensors)


def _align(optimizer: torch.optim.Optimizer) -> None:
    """Lay gradients and states out in memory as their parameters are: the fused kernels of the CPU take that for
    granted, and go wrong without a word where somebody has set a gradient that is a view."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            strides = parameter.stride()
            if parameter.grad.stride() != strides:
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
            kept = optimizer.state[parameter]
            for name, value in kept.items():
                if isinstance(value, Tensor) and value.dim() and value.stride() != strides:
                    kept[name] = torch.empty_like(parameter).copy_(value)
        if group.get("momentum"):
            _complete(optimizer, [parameter for parameter in group["params"] if parameter.grad is not None])


def _complete(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
    """Momentum of 0, which does what none does, for parameters that get their first gradient later than others: the
    fused kernel takes all of a group with momentum or all without."""
    missing = [p for p in parameters if optimizer.state[p].get("momentum_buffer") is None]
    if len(missing) < len(parameters):
        for parameter in missing:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
