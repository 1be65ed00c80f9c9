"""One optimizer for the stacked parameters of several runs, and each run's own to go on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from clx.loop.course import Fitting
from clx.loop.fit import Plan, go_on, make_optimizer, parameter_groups
from clx.loop.meter import Meter
from clx.loop.parts import copied
from clx.loop.stacked import Unbatchable

# Of torch.optim: what they do to a number depends on that number's own gradients alone.
ELEMENTWISE = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "RAdam", "Rprop")
OF_ALL = "step"  # the one entry of their states that is no tensor like the parameter


class StackedOptimizer:
    """each: the runs' own optimizers, whose states lie still until hand_out(). whole: the one that steps.

    Parameters are told from each other by their place in the optimizers' groups. Raises Unbatchable where an
    optimizer looks at more than one number at a time.
    """

    def __init__(self, fittings: Sequence[Fitting], plan: Plan) -> None:
        self.fittings, self.plan = fittings, plan
        self.groups = [parameter_groups(f.trainer.strategy, f.experience, f.phase) for f in fittings]
        self.each: list[torch.optim.Optimizer] = []
        for groups, fitting in zip(self.groups, fittings, strict=True):
            own, _ = make_optimizer(groups, fitting.phase, fitting.trainer.settings, plan)
            if own is None:
                raise Unbatchable("the phase trains no parameters")
            kind = type(own)
            if kind.__name__ not in ELEMENTWISE or not kind.__module__.startswith("torch.optim."):
                raise Unbatchable(f"the optimizer {kind.__name__} may look at whole tensors")
            self.each.append(own)
        self.whole = self.each[0]
        self.scheduler: Any = None

    def begin(self, stacked: Callable[[Tensor], Tensor]) -> tuple[tuple[int, int, int], Meter]:
        """Make the one that steps, from where the runs stand; returns (epoch, step, samples) and their meters as one.

        stacked: the stacked tensor of one of the first run's.
        """
        groups = [group | {"params": [stacked(p) for p in group["params"]]} for group in self.groups[0]]
        whole, self.scheduler = make_optimizer(
            groups, self.fittings[0].phase, self.fittings[0].trainer.settings, self.plan
        )
        assert whole is not None
        self.whole = whole
        meters, position = [], (0, 0, 0)
        for fitting, own in zip(self.fittings, self.each, strict=True):
            memory = fitting.trainer.memory
            if memory is not None and fitting.position is None:
                memory.restore(fitting.phase.name, own, fitting.trainer.strategy)
            meters.append(Meter())
            position = go_on(fitting.position, meters[-1], own, self.scheduler)
        if self.fittings[0].position is not None:  # with what a scheduler has made of the learning rates
            _same_options(self.each[0], whole)
        for parameter, parts in self._parameters():
            states = [own.state[part] for own, part in zip(self.each, parts, strict=True) if part in own.state]
            if len(states) == len(parts):
                whole.state[parameter] = {
                    key: torch.stack([state[key] for state in states]) if _stacks(key, value) else copied(value)
                    for key, value in states[0].items()
                }
        return position, Meter.beside(meters)

    def hand_out(self) -> None:
        """Bring the runs' own optimizers to where the whole one is."""
        for own in self.each:
            _same_options(self.whole, own)
        for parameter, parts in self._parameters():
            for number, (own, part) in enumerate(zip(self.each, parts, strict=True)):
                if parameter in self.whole.state:
                    own.state[part] = {
                        key: value[number].clone() if _stacks(key, value) else copied(value)
                        for key, value in self.whole.state[parameter].items()
                    }

    def save(self) -> None:
        """Keep the runs' states where they are kept from one experience to the next."""
        self.hand_out()
        for fitting, own in zip(self.fittings, self.each, strict=True):
            if fitting.trainer.memory is not None:
                fitting.trainer.memory.save(fitting.phase.name, own, fitting.trainer.strategy)

    def _parameters(self) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """(stacked, each run's) of everything that is trained."""
        for whole, *own in zip(self.whole.param_groups, *(o.param_groups for o in self.each), strict=True):
            yield from zip(whole["params"], zip(*(group["params"] for group in own), strict=True), strict=True)


def _stacks(key: str, value: Any) -> bool:
    return isinstance(value, Tensor) and key != OF_ALL


def _same_options(source: torch.optim.Optimizer, target: torch.optim.Optimizer) -> None:
    for given, taken in zip(source.param_groups, target.param_groups, strict=True):
        taken.update({key: value for key, value in given.items() if key != "params"})


def clip(gradients: Sequence[Tensor], limit: float) -> None:
    """Scale each run's gradients, parts of gradients [S, ...], to a norm of at most limit, all its tensors as one;
    as torch.nn.utils.clip_grad_norm_ does it for a single run."""
    norms = torch.stack([torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in gradients])
    scale = (limit / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
