"""EWC and SI as bare loops: a spring on each parameter, its gradient in closed form beside that of the loss."""

from __future__ import annotations

import torch
from speed_bare import Loop, Task, rows
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clx.runtime import seed as seeding


class Springs:
    """weight / 2 * sum importance * (parameter - anchor)^2."""

    def __init__(self, parameters: list[nn.Parameter], weight: float) -> None:
        self.parameters, self.weight = parameters, weight
        self.importance = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        self.anchor = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def pull(self) -> tuple[Tensor, list[Tensor]]:
        """The penalty, and its gradient for each parameter."""
        away = torch._foreach_sub(self.parameters, self.anchor)
        pull = torch._foreach_mul(self.importance, away)
        energy = torch.stack([torch.dot(a.view(-1), b.view(-1)) for a, b in zip(pull, away, strict=True)]).sum()
        torch._foreach_mul_(pull, self.weight)
        return energy * (self.weight / 2), pull

    @torch.no_grad()
    def hold(self) -> None:
        """Anchor the parameters where they are."""
        torch._foreach_copy_(self.anchor, self.parameters)


def gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Of every parameter, all of which have one."""
    return [p.grad for p in parameters if p.grad is not None]


def ewc_online(model: nn.Sequential, task: Task, weight: float = 100.0) -> nn.Module:
    """Fisher information from one pass over each experience, with labels drawn from the model."""
    loop, parameters = Loop(model, task), list(model.parameters())
    springs = Springs(parameters, weight)
    for number, x, y, seen in loop:
        for index in loop.batches(number, len(x)):
            loss = cross_entropy(model(rows(x, index))[:, :seen], y[index])
            loop.optimizer.zero_grad()
            loss.backward()
            if number:
                _, pull = springs.pull()
                torch._foreach_add_(gradients(parameters), pull)
            loop.optimizer.step()
        draw = seeding.generator("fisher", task.seed, number)
        torch._foreach_add_(springs.importance, fisher(model, x, seen, draw))
        springs.hold()
    return model


def fisher(model: nn.Sequential, x: Tensor, seen: int, draw: torch.Generator) -> list[Tensor]:
    """Mean of squared gradients of log p(y) of each sample alone, y drawn from p. For a linear layer of inputs a whose
    outputs have the gradients d, they are (d^2)^T (a^2)."""
    total = [torch.zeros_like(p, requires_grad=False) for p in model.parameters()]
    for part in x.split(512):
        inputs, outputs, value = [], [], part
        for layer in model:
            if isinstance(layer, nn.Linear):
                inputs.append(value.detach())
                value = layer(value)
                outputs.append(value)
            else:
                value = layer(value)
        logits = value[:, :seen]
        y = torch.multinomial(logits.detach().softmax(1), 1, generator=draw).squeeze(1)
        deltas = torch.autograd.grad(cross_entropy(logits, y, reduction="sum"), outputs)
        for number, (a, d) in enumerate(zip(inputs, deltas, strict=True)):
            squares = d.square()
            total[2 * number] += squares.T @ a.square()
            total[2 * number + 1] += squares.sum(0)
    torch._foreach_div_(total, len(x))
    return total


def si(model: nn.Sequential, task: Task, weight: float = 0.2, damping: float = 0.1) -> nn.Module:
    """The path integral of the loss's own gradient, step by step."""
    loop, parameters = Loop(model, task), list(model.parameters())
    springs = Springs(parameters, weight)
    path = [torch.zeros_like(p, requires_grad=False) for p in parameters]
    before = [p.detach().clone() for p in parameters]
    for number, x, y, seen in loop:
        for index in loop.batches(number, len(x)):
            loss = cross_entropy(model(rows(x, index))[:, :seen], y[index])
            loop.optimizer.zero_grad()
            loss.backward()
            si_step(loop, springs, path, before, held=number > 0)
        for importance, way, parameter, anchor in zip(
            springs.importance, path, parameters, springs.anchor, strict=True
        ):
            importance.add_((way / ((parameter.detach() - anchor).square() + damping)).clamp_(min=0))
            way.zero_()
        springs.hold()
    return model


@torch.no_grad()
def si_step(loop: Loop, springs: Springs, path: list[Tensor], before: list[Tensor], *, held: bool) -> None:
    """Step down loss and penalty, and add -(the loss's gradient) * (the way gone) to the path."""
    own = gradients(springs.parameters)
    torch._foreach_copy_(before, springs.parameters)
    pull = springs.pull()[1] if held else None
    if pull is not None:
        torch._foreach_add_(own, pull)
    loop.optimizer.step()
    if pull is not None:
        torch._foreach_sub_(own, pull)  # the loss's alone again
    torch._foreach_sub_(before, springs.parameters)  # minus the way
    torch._foreach_addcmul_(path, own, before)
