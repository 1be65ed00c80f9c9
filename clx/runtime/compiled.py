"""torch's compiler on modules in place; imported where something is compiled, for that takes as long as torch."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

import torch
from torch import Tensor, nn

MODES = ("default", "reduce-overhead", "max-autotune")
CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
MOST_GRAPHS = 64  # of one module; torch's own limit is 8, after which it goes on uncompiled


@functools.cache
def check(mode: str, device: torch.device) -> None:
    """Compile a trifle for the device. Raises ValueError, in one line, where this machine cannot."""
    trifle = nn.ReLU()
    try:
        compile_in_place(trifle, mode)
        trifle(torch.ones(2, device=device))
    except Exception as error:  # the compiler's parts raise whatever they like
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        inner = getattr(error, "inner_exception", error)
        said = next((line.strip() for line in str(inner).splitlines() if line.strip()), type(inner).__name__)
        needed = "a C++ compiler (g++)" if device.type == "cpu" else "triton and a C compiler (gcc)"
        raise ValueError(
            f"compile {mode}: torch cannot compile for {device.type} here ({said[:160]}); install {needed}, or set null"
        ) from error


def how(mode: str) -> dict[str, Any]:
    """The arguments of torch.compile for a mode."""
    import torch._inductor  # noqa: PLC0415 - see the top

    # fallback_random: dropout draws what it draws uncompiled. dynamic=False: what is compiled follows from the inputs
    # at hand, not from those that came before, so that a run that goes on from a checkpoint is the same bit for bit.
    return {"dynamic": False, "options": torch._inductor.list_mode_options(mode) | {"fallback_random": True}}


def compile_in_place(module: nn.Module, mode: str) -> None:
    """Compile what a call of the module runs, anew: what was compiled for it before is forgotten.

    Parameters, state_dict and type stay; copies of the module are not compiled. The first dimension of the inputs may
    have any size. Sets torch's limit of graphs for one function, process-wide: beyond it a call raises, where torch
    would go on uncompiled.
    """
    import torch._dynamo  # noqa: PLC0415 - see the top

    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    module._compiled_call_impl = _Call(module, mode)  # where nn.Module.compile puts it, and copies leave it out


class _Call:
    def __init__(self, module: nn.Module, mode: str) -> None:
        def plain(*args: Any, **kwargs: Any) -> Any:
            return module._call_impl(*args, **kwargs)

        # torch keeps graphs with the code object that they are of: with one of its own, a module has its own limit
        # of graphs, and takes them along when it is compiled anew or dropped.
        plain.__code__ = plain.__code__.replace()
        self.compiled = torch.compile(plain, **how(mode))
        self.mark = torch._dynamo.maybe_mark_dynamic
        self.copies = mode in CUDA_GRAPHS

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.dim():
                self.mark(value, 0)
        out = self.compiled(*args, **kwargs)
        # A CUDA graph writes its next output over this one, which a strategy may still hold.
        return out.clone() if self.copies and isinstance(out, Tensor) else out


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Whatever is compiled runs as it is written: hooks and torch.func see the modules themselves."""
    return torch.compiler.set_stance("force_eager")


def watched(module: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """The module runs as it is written, so that hooks set for one pass are called; compiled, it would not ask for them
    again. Nothing changes, and no compiler is imported, where no part of it is compiled."""
    if any(part._compiled_call_impl is not None for part in module.modules()):
        return uncompiled()
    return contextlib.nullcontext()
