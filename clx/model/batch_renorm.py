"""Batch renormalisation: batch statistics, held near the running ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class BatchRenorm(nn.Module):
    """y = gamma ((x - mean_B) / std_B r + d) + beta. Ioffe 2017, arXiv:1702.03275, Algorithm 1.

    r = clamp(std_B / std, 1 / r_max, r_max) and d = clamp((mean_B - mean) / std, -d_max, d_max), both held fixed in
    the gradient. x: [B, C] or [B, C, ...]. r_max and d_max start at 1 and 0, where this is BatchNorm, and grow by
    inc_step for each sample trained on, up to max_r_max and max_d_max. momentum: of the running statistics.
    Differs from the paper: the running variance is kept, as BatchNorm does, not the running deviation.
    """

    def __init__(
        self,
        num_features: int,
        *,
        momentum: float = 0.01,
        max_r_max: float = 1.25,
        max_d_max: float = 0.5,
        inc_step: float = 4.1e-5,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.max_r_max, self.max_d_max, self.inc_step = max_r_max, max_d_max, inc_step
        self.gamma, self.beta = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("r_max", torch.tensor(1.0))
        self.register_buffer("d_max", torch.tensor(0.0))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.r_max: Tensor
        self.d_max: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, ...] -> the same shape."""
        count = x.numel() // x.shape[1]
        if not self.training or count == 1:  # one value has no variance
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.gamma, self.beta, training=False, eps=self.eps
            )
        dims = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        mean, variance = x.mean(dims), x.var(dims, unbiased=False)
        std = (variance + self.eps).sqrt()
        r, d = self._correction(mean.detach(), std.detach())
        scale = r / std * self.gamma
        out = (x - mean.view(shape)) * scale.view(shape) + (d * self.gamma + self.beta).view(shape)
        self._advance(mean.detach(), variance.detach() * count / (count - 1), len(x))
        return out.to(x.dtype)

    @torch.no_grad()
    def _correction(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        running = (self.running_var + self.eps).sqrt()
        r = torch.minimum(torch.maximum(std / running, 1 / self.r_max), self.r_max)
        d = torch.minimum(torch.maximum((mean - self.running_mean) / running, -self.d_max), self.d_max)
        return r, d

    @torch.no_grad()
    def _advance(self, mean: Tensor, variance: Tensor, batch: int) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        self.r_max.add_(self.inc_step * batch).clamp_(max=self.max_r_max)
        self.d_max.add_(self.inc_step * batch).clamp_(max=self.max_d_max)


def renormalize(model: nn.Module, *, momentum: float, max_r_max: float, max_d_max: float, inc_step: float) -> None:
    """Put a BatchRenorm in the place of every BatchNorm inside the model, with its weights and statistics."""
    for name, child in list(model.named_children()):
        if isinstance(child, _BatchNorm):
            fresh = BatchRenorm(
                child.num_features,
                momentum=momentum,
                max_r_max=max_r_max,
                max_d_max=max_d_max,
                inc_step=inc_step,
                eps=child.eps,
            )
            with torch.no_grad():
                pairs = (("gamma", child.weight), ("beta", child.bias))
                for own, given in (*pairs, ("running_mean", child.running_mean), ("running_var", child.running_var)):
                    if given is not None:
                        getattr(fresh, own).copy_(given)
            setattr(model, name, fresh.to(fresh.gamma.device))
        else:
            renormalize(child, momentum=momentum, max_r_max=max_r_max, max_d_max=max_d_max, inc_step=inc_step)
