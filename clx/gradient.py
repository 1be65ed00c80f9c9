"""Arithmetic on gradients: projections, and squares of per-sample gradients.

Gradients are lists of tensors, one for each parameter, in the parameters' shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap


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


PerSampleLoss = Callable[[Tensor, Tensor], Tensor]  # logits [1, K], target of one sample -> scalar


def squared_gradients(
    model: nn.Module, x: Tensor, targets: Tensor, loss: PerSampleLoss, *, task_label: int
) -> dict[str, Tensor]:
    """Sum over the samples of the squared gradient of each sample's own loss, by parameter name.

    x [B, ...]; targets [B, ...]: handed to loss one by one. The model runs in the mode it is in; task_label is
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
    model: nn.Module, layers: dict[str, nn.Linear], x: Tensor, targets: Tensor, loss: PerSampleLoss, task_label: int
) -> dict[str, Tensor] | None:
    """For y = W a + b and d = dloss/dy of each sample: sum (d a^T)^2 = (d^2)^T (a^2), so one pass over the batch.

    None where a layer is used twice or on inputs that are not [B, features]: squares do not add up then.
    """
    inputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    deltas: dict[str, list[Tensor]] = {name: [] for name in layers}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[name].append(args[0].detach().clone())
            if output.requires_grad:  # a frozen body gives none
                output.register_hook(deltas[name].append)  # set before an in-place ReLU can change the output

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        logits = model(x, task_label)
        total = vmap(loss)(logits.unsqueeze(1), targets).sum()
        trained = [p for p in model.parameters() if p.requires_grad]
        torch.autograd.grad(total, trained, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    squares = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for name, layer in layers.items():
        if len(inputs[name]) > 1 or any(a.dim() != 2 for a in inputs[name]):
            return None
        for a, d in zip(inputs[name], deltas[name], strict=False):  # a head of another task has no delta
            if f"{name}.weight" in squares:
                squares[f"{name}.weight"] += d.square().T @ a.square()
            if layer.bias is not None and f"{name}.bias" in squares:
                squares[f"{name}.bias"] += d.square().sum(0)
    return squares


def _squares_by_vmap(
    model: nn.Module, x: Tensor, targets: Tensor, loss: PerSampleLoss, task_label: int, chunk: int = 64
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
    for start in range(0, len(x), chunk):
        gradients = per_sample(parameters, x[start : start + chunk], targets[start : start + chunk])
        for name, g in gradients.items():
            total[name] += g.square().sum(0)
    return total
