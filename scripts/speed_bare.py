"""Methods as bare PyTorch loops over float tensors in memory: the other side of benchmark_speed.py's training cases.

Each makes the same draws as clx (order of batches, what a memory keeps and gives), so that both end at the same
weights. Stored inputs are floats already; nothing is logged, checked or kept for going on after an interruption.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax, normalize, one_hot

from clx.runtime import seed as seeding

Experiences = list[tuple[Tensor, Tensor]]  # inputs [N, ...] float32 and classes [N] of each


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a loop trains on, and with which settings; classes_per_experience come with each experience."""

    experiences: Experiences
    batch_size: int = 64
    replay_size: int = 64
    capacity: int = 500
    learning_rate: float = 0.05
    classes_per_experience: int = 2
    seed: int = 0


@dataclass
class Loop:
    """A model, its optimizer, and the batches of each experience in the order in which clx has them."""

    model: nn.Sequential
    task: Task
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.task.learning_rate)

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor, int]]:
        """(number, inputs, classes, classes seen) of each experience."""
        for number, (x, y) in enumerate(self.task.experiences):
            yield number, x, y, self.task.classes_per_experience * (number + 1)

    def batches(self, number: int, count: int) -> tuple[Tensor, ...]:
        """Positions of each batch."""
        draw = seeding.generator("order", self.task.seed, number, "train", 0)
        return torch.randperm(count, generator=draw).split(self.task.batch_size)

    def step(self, loss: Tensor) -> None:
        """Down the gradient."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def rows(values: Tensor, index: Tensor) -> Tensor:
    """values[index], in the fastest way that torch has."""
    return values.index_select(0, index)


def finetune(model: nn.Sequential, task: Task) -> nn.Module:
    """The logits are cut to the classes seen, as the growing head's are."""
    loop = Loop(model, task)
    for number, x, y, seen in loop:
        for index in loop.batches(number, len(x)):
            loop.step(cross_entropy(model(rows(x, index))[:, :seen], y[index]))
    return model


def er(model: nn.Sequential, task: Task) -> nn.Module:
    """With a reservoir, vectorised as well as can be."""
    loop, capacity = Loop(model, task), task.capacity
    stored_x = torch.zeros(capacity, *task.experiences[0][0].shape[1:])
    stored_y, met, draw = torch.zeros(capacity, dtype=torch.int64), 0, seeding.generator("buffer", task.seed)
    for number, x, y, seen in loop:
        for index in loop.batches(number, len(x)):
            fresh_x, fresh_y = rows(x, index), rows(y, index)
            joint_x, joint_y = fresh_x, fresh_y
            if met:
                drawn = torch.randperm(min(met, capacity), generator=draw)[: task.replay_size]
                joint_x = torch.cat((fresh_x, rows(stored_x, drawn)))
                joint_y = torch.cat((fresh_y, rows(stored_y, drawn)))
            loop.step(cross_entropy(model(joint_x)[:, :seen], joint_y))
            slots, kept = reservoir(met, len(index), capacity, draw)
            if slots:
                chosen = torch.tensor(kept)
                stored_x[slots], stored_y[slots] = fresh_x.index_select(0, chosen), fresh_y.index_select(0, chosen)
            met += len(index)
    return model


def reservoir(met: int, count: int, capacity: int, draw: torch.Generator) -> tuple[list[int], list[int]]:
    """(slots, positions in the batch) of those of count further samples that are kept; of two in one slot the later."""
    uniform = torch.rand(count, generator=draw, dtype=torch.float64)
    slots = (uniform * torch.arange(met + 1, met + count + 1, dtype=torch.float64)).long().tolist()
    for position in range(min(capacity - met, count)):
        slots[position] = met + position
    kept = {slot: position for position, slot in enumerate(slots) if slot < capacity}
    return list(kept), list(kept.values())


def lwf(model: nn.Sequential, task: Task, temperature: float = 2.0) -> nn.Module:
    """The last model answers every batch; KL of the softened scores of the old classes."""
    loop, teacher, old = Loop(model, task), None, 0
    for number, x, y, seen in loop:
        for index in loop.batches(number, len(x)):
            inputs = rows(x, index)
            logits = model(inputs)[:, :seen]
            loss = cross_entropy(logits, y[index])
            if teacher is not None:
                with torch.no_grad():
                    target = log_softmax(teacher(inputs)[:, :old] / temperature, 1)
                answer = log_softmax(logits[:, :old] / temperature, 1)
                loss = loss + temperature**2 * nn.functional.kl_div(
                    answer, target, reduction="batchmean", log_target=True
                )
            loop.step(loss)
        teacher, old = copy.deepcopy(model), seen
    return model


def agem(model: nn.Sequential, task: Task, reference_size: int = 256) -> nn.Module:
    """The gradient of a memory batch, and the projection; an equal random share of each class at the end."""
    loop, draw = Loop(model, task), seeding.generator("buffer", task.seed)
    parts: list[tuple[Tensor, Tensor]] = []
    memory_x, memory_y = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    parameters = list(model.parameters())
    for number, x, y, seen in loop:
        for index in loop.batches(number, len(x)):
            loss = cross_entropy(model(rows(x, index))[:, :seen], y[index])
            loop.optimizer.zero_grad()
            loss.backward()
            if number:
                drawn = torch.randperm(len(memory_y), generator=draw)[:reference_size]
                loss = cross_entropy(model(rows(memory_x, drawn))[:, :seen], rows(memory_y, drawn))
                project(parameters, torch.autograd.grad(loss, parameters))
            loop.optimizer.step()
        share = task.capacity // seen
        parts = [(px[:share], py[:share]) for px, py in parts]
        for label in range(seen - task.classes_per_experience, seen):
            mine = (y == label).nonzero().squeeze(1)
            mine = mine[torch.randperm(len(mine), generator=draw)[:share]]
            parts.append((x[mine], y[mine]))
        memory_x, memory_y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return model


@torch.no_grad()
def project(parameters: list[nn.Parameter], reference: tuple[Tensor, ...]) -> None:
    """Take what points against the reference out of the gradients, in place."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    against = torch.stack([torch.dot(g.view(-1), r.view(-1)) for g, r in zip(gradients, reference, strict=True)]).sum()
    if against < 0:
        length = torch.stack([torch.dot(r.view(-1), r.view(-1)) for r in reference]).sum()
        torch._foreach_add_(gradients, torch._foreach_mul(reference, -against / length))


def icarl(model: nn.Sequential, task: Task) -> nn.Module:
    """Sigmoid distillation on new data and exemplars; then, inside the measurement, herding and the class means."""
    loop, teacher, old = Loop(model, task), None, 0
    parts: list[tuple[Tensor, Tensor]] = []
    body = model[:-1]
    for number, x, y, seen in loop:
        all_x, all_y = (torch.cat(tensors) for tensors in zip((x, y), *parts, strict=True))
        for index in loop.batches(number, len(all_x)):
            inputs = rows(all_x, index)
            logits = model(inputs)[:, :seen]
            target = one_hot(all_y[index], seen).float()
            if teacher is not None:
                with torch.no_grad():
                    target[:, :old] = teacher(inputs)[:, :old].sigmoid()
            loop.step(binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(index))
        share = task.capacity // seen
        parts = [(px[:share], py[:share]) for px, py in parts]
        for label in range(old, seen):
            mine = (y == label).nonzero().squeeze(1)
            mine = mine[herd(embed(body, x[mine]), share)]
            parts.append((x[mine], y[mine]))
        torch.stack([normalize(normalize(embed(body, px), dim=1).sum(0), dim=0) for px, _ in parts])  # class means
        teacher, old = copy.deepcopy(model), seen
    return model


@torch.no_grad()
def embed(body: nn.Module, x: Tensor) -> Tensor:
    """Features [N, D], 512 samples at a time."""
    return torch.cat([body(part) for part in x.split(512)])


def herd(features: Tensor, count: int) -> Tensor:
    """Positions [count] of the exemplars, one product with the features [N, D] a pick: what any pick needs."""
    f = normalize(features.double(), dim=1)
    closeness = f @ normalize(f.mean(0), dim=0)
    covered = f.square().sum(1) / 2
    picks = []
    for k in range(1, count + 1):
        best = int((k * closeness - covered).argmax())
        picks.append(best)
        covered += f @ f[best]
        covered[best] = torch.inf
    return torch.tensor(picks)
