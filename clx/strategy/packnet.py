"""PackNet: each task keeps the largest weights of those left free, and leaves the rest to the tasks to come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from clx.buffer.base import Buffer
from clx.model.base import Model
from clx.model.dynamic import MultiTaskModule, by_task
from clx.model.pruning import smallest
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective, Phase


class PackNet(Finetune):
    """Trains the free weights, sets the smallest of them to 0 and free again, trains the others once more; a task is
    answered with the weights of itself and of those before it.

    Mallya & Lazebnik 2018, arXiv:1711.05769, Sec. 3. prune_fraction: of each layer's weights that the task has
    trained (0.5 and 0.75 in the paper); retrain_epochs: after pruning, null = as many as before (the paper: half as
    many, 10). Linear and convolutional weights are shared out; biases and all else that is not a task's own head,
    normalisation and its statistics too, are trained by the first task alone. Later tasks leave the answers for earlier
    ones bit for bit. With prune_fraction 0 and retrain_epochs 0 the first task is finetune, and leaves nothing to
    others but their heads. Differs from the paper: the last task is pruned too, as nobody knows that it is the last; it
    starts from random weights, the paper from a network trained on ImageNet.
    """

    scenarios = frozenset({"task_incremental"})

    def __init__(
        self, model: Model, buffer: Buffer | None = None, *, prune_fraction: float, retrain_epochs: int | None
    ) -> None:
        super().__init__(model, buffer)
        if not 0 <= prune_fraction < 1:
            raise ValueError(f"prune_fraction {prune_fraction} is outside [0, 1); the paper takes 0.5 and 0.75")
        if retrain_epochs is not None and retrain_epochs < 0:
            raise ValueError(f"retrain_epochs {retrain_epochs} < 0; 0 retrains nothing, null as long as before")
        self.prune_fraction, self.retrain_epochs = prune_fraction, retrain_epochs
        self.position: dict[int, int] = {}  # task label -> number of its experience
        self.current = 0
        self.weights: dict[str, Tensor] = {}  # what is shared out, by name
        self.still: list[nn.Module] = []  # normalisation, after the first task

    def conflict(self, benchmark: Any) -> str | None:
        refused = super().conflict(benchmark)
        if refused is None and self.model.task_features:
            return "model: this network has parts for each task already; choose another model"
        if refused is None and not isinstance(self.model.classifier, MultiTaskModule):
            return "model/head: PackNet needs a head for each task; set model/head=multi_head"
        if refused is None and (
            benchmark.accumulate == "cumulative" or len(set(benchmark.labels)) < len(benchmark.labels)
        ):
            return "benchmark: a task of it comes in several experiences, and PackNet trains each task once"
        return refused

    @torch.no_grad()
    def adaptation(self, experience: Experience) -> None:
        super().adaptation(experience)
        self.current = experience.index
        self.position |= dict.fromkeys(experience.classes_by_task, experience.index)
        self.weights = shared_weights(self.model)
        for name, weight in self.weights.items():
            if key("owner", name) not in self._buffers:  # experience that trains it, or will train it
                self.register_buffer(key("owner", name), torch.zeros_like(weight, dtype=torch.int16))
                self.register_buffer(key("kept", name), weight.detach().clone())
        if experience.index:
            self.still = [module for module in self.model.modules() if isinstance(module, _NormBase)]
            for parameter in other_parameters(self.model):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> PackNet:
        super().train(mode)
        for module in self.still:
            module.eval()
        return self

    def owner(self, name: str) -> Tensor:
        """The experience [...] that each value of a weight belongs to; that of the next one is free and 0."""
        return self.get_buffer(key("owner", name))

    @torch.no_grad()
    def keep(self) -> None:
        """Take the weights as what must not move where they are another task's."""
        for name, weight in self.weights.items():
            self.get_buffer(key("kept", name)).copy_(weight)

    def before_task(self, experience: Experience) -> None:
        self.keep()

    def phases(self, experience: Experience) -> Iterator[Phase]:
        yield Phase(name="train", data=experience.data)
        self.prune()
        if self.retrain_epochs != 0:
            yield Phase(name="retrain", data=experience.data, epochs=self.retrain_epochs)

    @torch.no_grad()
    def prune(self) -> None:
        """Hand the smallest weights of the current task on to the next one, as zeros."""
        for name, weight in self.weights.items():
            owner = self.owner(name)
            free = smallest(weight, owner == self.current, self.prune_fraction)
            weight.masked_fill_(free, 0.0)
            owner.masked_fill_(free, self.current + 1)
        self.keep()

    @torch.no_grad()
    def after_backward(self, batch: Batch) -> None:
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.masked_fill_(self.owner(name) != self.current, 0.0)

    @torch.no_grad()
    def after_step(self, batch: Batch, objective: Objective) -> None:
        for name, weight in self.weights.items():  # momentum and weight decay move what has no gradient
            weight.copy_(torch.where(self.owner(name) == self.current, weight, self.get_buffer(key("kept", name))))

    def inference(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
        if task_labels is None:
            raise ValueError("task_labels None: PackNet has weights for each task; give the labels")
        return by_task(x, task_labels, self.answer)

    def answer(self, x: Tensor, task: int) -> Tensor:
        """x [B, ...] of one task -> scores [B, K], by the weights of that task and of those before it."""
        last = self.position[task]
        if last == self.current:  # the weights of tasks to come are 0
            return self.model(x, task)
        own = {name: torch.where(self.owner(name) <= last, weight, 0.0) for name, weight in self.weights.items()}
        return functional_call(self.model, own, (x, task))


def key(kind: str, name: str) -> str:
    """What a buffer is called that goes with a weight; torch allows no dot."""
    return f"{kind}:{name.replace('.', '/')}"


def heads(model: nn.Module) -> set[int]:
    """The ids of all modules that are a task's own."""
    return {id(part) for head in model.modules() if isinstance(head, MultiTaskModule) for part in head.modules()}


def shared_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of linear and convolutional layers outside the tasks' heads, by name; those that are trained."""
    own = heads(model)
    return {
        f"{name}.weight": layer.weight
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and id(layer) not in own and layer.weight.requires_grad
    }


def other_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All that are neither such weights nor a task's own."""
    own = heads(model)
    of_heads = {id(p) for module in model.modules() if id(module) in own for p in module.parameters()}
    weights = {id(p) for p in shared_weights(model).values()}
    return [p for p in model.parameters() if id(p) not in of_heads | weights]
