"""Arithmetic on gradients: projections, and squares of per-sample gradients.

Gradients are lists of tensors, one for each parameter, in the parameters' shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """The inner product of two gradients, a scalar."""
    return torch.stack([torch.dot(x.flatten(), y.flatten()) for x, y in zip(a, b, strict=True)]).sum()


@torch.no_grad()
def project_half_space(gradient: Sequence[Tensor], reference: Sequence[Tensor]) -> None:
    """Change gradient in place to the closest one that does not point against the reference.

    g <- g - min(g.r, 0) / (r.r) r. Chaudhry et al. 2019, arXiv:1812.00420, Eq. 11. Unchanged where g.r >= 0 or
    r = 0; no branch, so nothing waits for the device.
    """
    against = dot(gradient, reference).clamp(max=0)
    length = dot(reference, reference)
    factor = torch.where(length > 0, -against / length, 0.0)
    for g, r in zip(gradient, reference, strict=True):
        g.add_(factor * r)


def cosines(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Cosines [A, B] between A gradients and B gradients, over all parameters; 0 where one of the two is 0.

    a, b: for each parameter, in the same order, the gradients stacked: [A, ...] and [B, ...].
    """
    pairs = [(x.flatten(1), y.flatten(1)) for x, y in zip(a, b, strict=True)]
    inner = torch.stack([x @ y.T for x, y in pairs]).sum(0)
    a_length = torch.stack([x.square().sum(1) for x, _ in pairs]).sum(0).sqrt()
    b_length = torch.stack([y.square().sum(1) for _, y in pairs]).sum(0).sqrt()
    length = a_length.unsqueeze(1) * b_length
    return torch.where(length > 0, inner / length, 0.0)


def per_sample_gradients(model: nn.Module, x: Tensor, y: Tensor, t: Tensor) -> list[Tensor]:
    """The gradient of each sample's own cross-entropy, for each trained parameter in their order: [B, ...].

    x [B, ...]; y [B] classes; t [B] task labels. For a model in eval mode: a sample has no batch statistics.
    """
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    fixed |= {name: b.detach() for name, b in model.named_buffers()}
    result = [p.new_zeros(len(x), *p.shape) for p in trained.values()]
    for task in t.unique().tolist():  # a head is chosen by one label, not by a tensor of them

        def single(values: dict[str, Tensor], sample: Tensor, label: Tensor, task: int = task) -> Tensor:
            logits = functional_call(model, values | fixed, (sample.unsqueeze(0), task))
            return cross_entropy(logits, label.unsqueeze(0))

        own = (t == task).nonzero().squeeze(1)
        gradients = vmap(grad(single), in_dims=(None, 0, 0))(trained, x[own], y[own])
        for total, name in zip(result, trained, strict=True):
            total[own] = gradients[name]
    return result


PerSampleLoss = Callable[[Tensor, Tensor], Tensor]  # logits [1, K], target of one sample -> scalar
Targets = Tensor | Callable[[Tensor], Sequence[Tensor]]  # [B, ...], or several such, made from the logits [B, K]


def squared_gradients(
    model: nn.Module, x: Tensor, targets: Targets, loss: PerSampleLoss, *, task_label: int
) -> dict[str, Tensor]:
    """Sum over the samples, and over the targets, of the squared gradient of each sample's own loss, by parameter name.

    x [B, ...]; targets: handed to loss sample by sample. The model runs in the mode it is in; task_label is
    the label of every sample. Only parameters that require a gradient are in the result.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    layers = _linear_layers(model, parameters)
    squares = None if layers is None else _squares_of_linear(model, layers, x, targets, loss, task_label)
    return _squares_by_vmap(model, x, targets, loss, task_label) if squares is None else squares


def _linear_layers(model: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Linear] | None:
    """The Linear layers by name where they own every trained parameter, else None."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    owned = {id(p) for layer in layers.values() for p in layer.parameters()}
    return layers if all(id(p) in owned for p in parameters.values()) else None


def _squares_of_linear(
    model: nn.Module, layers: dict[str, nn.Linear], x: Tensor, targets: Targets, loss: PerSampleLoss, task_label: int
) -> dict[str, Tensor] | None:
    """For y = W a + b and d = dloss/dy of each sample: sum (d a^T)^2 = (d^2)^T (a^2), so one pass over the batch.

    None where a layer is used twice or on inputs that are not [B, features]: squares do not add up then.
    """
    passed: dict[str, tuple[Tensor, int, Any]] = {}  # layer -> its input, as it was, and where its output came about
    again: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if name in passed:
                again.append(name)
            if output.requires_grad:  # a frozen body gives none
                # The edge, not the tensor: an in-place ReLU may change that.
                passed[name] = args[0].detach(), args[0]._version, get_gradient_edge(output)

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        logits = model(x, task_label)
    finally:
        for handle in handles:
            handle.remove()
    changed = any(a.dim() != 2 or a._version != version for a, version, _ in passed.values())
    if again or changed:
        return None
    squares: dict[str, Tensor] = {}
    inputs = {name: a.square() for name, (a, _, _) in passed.items() if layers[name].weight.requires_grad}
    edges = [edge for _, _, edge in passed.values()]
    for each in (targets,) if isinstance(targets, Tensor) else targets(logits.detach()):
        total = vmap(loss)(logits.unsqueeze(1), each).sum()
        # With respect to the layers' outputs alone: the weights' own gradients would be thrown away.
        deltas = torch.autograd.grad(total, edges, retain_graph=True, allow_unused=True)
        for name, delta in zip(passed, deltas, strict=True):
            if delta is not None:
                own = delta.square()
                if name in inputs:
                    _add(squares, f"{name}.weight", own.T @ inputs[name])
                if layers[name].bias is not None and layers[name].bias.requires_grad:
                    _add(squares, f"{name}.bias", own.sum(0))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: squares[name] if name in squares else torch.zeros_like(p) for name, p in parameters.items()}


def _add(total: dict[str, Tensor], name: str, values: Tensor) -> None:
    total[name] = total[name].add_(values) if name in total else values


def _squares_by_vmap(
    model: nn.Module, x: Tensor, targets: Targets, loss: PerSampleLoss, task_label: int, chunk: int = 64
) -> dict[str, Tensor]:
    """The same for any model: per-sample gradients by torch.func, chunk samples at a time to bound the memory."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    fixed |= {name: b.detach() for name, b in model.named_buffers()}

    def single(values: dict[str, Tensor], sample: Tensor, target: Tensor) -> Tensor:
        logits = functional_call(model, values | fixed, (sample.unsqueeze(0), task_label))
        return loss(logits, target)

    per_sample = vmap(grad(single), in_dims=(None, 0, 0), randomness="different")
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    with torch.no_grad():
        given = (targets,) if isinstance(targets, Tensor) else targets(model(x, task_label))
    for each in given:
        for start in range(0, len(x), chunk):
            gradients = per_sample(parameters, x[start : start + chunk], each[start : start + chunk])
            for name, g in gradients.items():
                total[name] += g.square().sum(0)
    return total
