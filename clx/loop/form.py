"""In which form a run's networks compute: precision, compiled or not, memory format."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from clx.model.base import Model
from clx.model.dynamic import DynamicModule, MultiTaskModule
from clx.model.multi_task import MultiTask
from clx.runtime import compiled

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Form:
    """precision: float32, or bfloat16 under autocast, of the training steps. compile: a mode of torch.compile, None =
    not compiled. channels_last: whether 4-d weights lie in memory with the channels innermost."""

    precision: str = "float32"
    compile: str | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.compile not in (None, *compiled.MODES):
            raise ValueError(f"compile {self.compile!r} is not one of None, {', '.join(compiled.MODES)}")

    def check(self, model: nn.Module, device: torch.device) -> None:
        """Raise ValueError where the model cannot be compiled, or nothing can on this machine."""
        if self.compile is None:
            return
        if not compilable(model):
            raise ValueError(
                f"compile {self.compile}: {type(model).__name__} has nothing to compile, that is, no child besides the "
                "head that works without task labels; choose another model, or set null"
            )
        compiled.check(self.compile, device)

    def give(self, root: nn.Module) -> None:
        """Bring every model inside root into this form, teachers too; what may have grown, anew."""
        if self.channels_last:
            # Inputs need no more: a convolution answers in the format of its weight.
            root.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this one
        if self.compile is None:
            return
        for model in root.modules():
            for part in compilable(model).values() if isinstance(model, Model | MultiTask) else ():
                grows = any(isinstance(module, DynamicModule) for module in part.modules())
                if grows or part._compiled_call_impl is None:
                    compiled.compile_in_place(part, self.compile)
        gc.collect()  # a compiled module refers to itself: teachers of before would stay for long

    def plain(self) -> contextlib.AbstractContextManager[Any]:
        """Nothing is compiled inside: what a strategy does once for an experience may look into the modules."""
        return contextlib.nullcontext() if self.compile is None else compiled.uncompiled()

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """What was asked for and what of the model it concerns, as plain values: parts that are compiled, weights that
        have a memory format."""
        return {
            "precision": self.precision,
            "compile": self.compile,
            "compiled_parts": [] if self.compile is None else list(compilable(model)),
            "channels_last": self.channels_last,
            "channels_last_weights": sum(p.dim() == 4 for p in model.parameters()) if self.channels_last else 0,
        }


def compilable(model: nn.Module) -> dict[str, nn.Module]:
    """The children of the model that are compiled, by name: its backbone, which features() and forward() alike run.

    Left out: the head, which grows and is little more than one product of matrices; and what depends on task labels,
    for it does something else for each set of labels in a batch.
    """
    return {
        name: child
        for name, child in model.named_children()
        if child is not getattr(model, "classifier", None)
        and not isinstance(child, nn.ModuleList | nn.ModuleDict)  # nobody calls these
        and not any(isinstance(module, MultiTaskModule) for module in child.modules())
    }
