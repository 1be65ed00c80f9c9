"""torch's optimizers without torch's compiler, whose import takes as long as that of all the rest of torch."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch


@functools.cache
def without_compiler(kind: Any) -> Any:
    """The same optimizer as a subclass whose methods are those that torch wraps with `torch._dynamo.disable`.

    The wrappers matter within torch.compile alone; unwrapped, nothing imports torch._dynamo. What is no class of
    torch.optim is handed back as it is.
    """
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        return kind
    if not kind.__module__.startswith("torch.optim."):
        return kind
    raw = inspect.unwrap(kind.step)

    @functools.wraps(raw)
    def step(self: torch.optim.Optimizer, closure: Any = None) -> Any:
        with torch.set_grad_enabled(self.defaults.get("differentiable", False)):
            return raw(self, closure)

    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    doc = {"__doc__": kind.__doc__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), {"step": step, **methods, **doc})
