"""Prompts for a frozen transformer, and how they are chosen: by a query [B, D], the image's features without any."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from clx.model.dynamic import DynamicModule
from clx.model.vit import Prompt
from clx.types import Experience


class PromptPool(nn.Module):
    """M prompts of L_p tokens, each under a key; a query takes the N whose keys are the nearest by cosine.

    Wang et al. 2022, arXiv:2112.08654, Eq. 3. Prompts and keys start uniform in [-1, 1].
    """

    def __init__(self, D: int, *, M: int, L_p: int, N: int) -> None:  # noqa: N803 - the paper's names
        super().__init__()
        self.N = N
        self.prompts = nn.Parameter(torch.empty(M, L_p, D).uniform_(-1, 1))
        self.keys = nn.Parameter(torch.empty(M, D).uniform_(-1, 1))

    def forward(self, query: Tensor) -> Prompt:
        """query [B, D] -> tokens [B, N * L_p, D] of each sample's own prompts, nearest first, and match [B, N]."""
        match, chosen = (normalize(query, dim=1) @ normalize(self.keys, dim=1).T).topk(self.N)
        return Prompt(tokens=self.prompts[chosen].flatten(1, 2), match=match)


class DualPrompts(DynamicModule):
    """G: prefixes of L_g keys and values that every image gets; E: prefixes of L_e, one set for each experience.

    Wang et al. 2022, arXiv:2204.04799, Sec. 4. In training mode an image gets the E-prompt of the experience that
    came last, in eval mode the one whose key is nearest to its query. Those of earlier experiences are frozen.
    """

    def __init__(
        self,
        D: int,  # noqa: N803 - the paper's name
        *,
        g_layers: Sequence[int],
        e_layers: Sequence[int],
        L_g: int,  # noqa: N803 - the paper's name
        L_e: int,  # noqa: N803 - the paper's name
    ) -> None:
        super().__init__()
        self.g_layers, self.e_layers, self.shape = tuple(g_layers), tuple(e_layers), (len(e_layers), 2, L_e, D)
        self.g = nn.Parameter(torch.empty(len(g_layers), 2, L_g, D).uniform_(-1, 1))
        self.e, self.keys = nn.ParameterList(), nn.ParameterList()

    def adaptation(self, experience: Experience) -> None:
        self.e.requires_grad_(False)
        self.keys.requires_grad_(False)
        self.e.append(nn.Parameter(self.g.new_empty(self.shape)))
        self.keys.append(nn.Parameter(self.g.new_empty(self.shape[-1])))
        for parameter in (self.e[-1], self.keys[-1]):
            nn.init.uniform_(parameter, -1, 1)

    def forward(self, query: Tensor) -> Prompt:
        """query [B, D] -> prefixes of the layers in question, and match [B, 1] to the key of the E-prompt."""
        keys = self.keys[-1].unsqueeze(0) if self.training else torch.stack(list(self.keys))
        match, chosen = (normalize(query, dim=1) @ normalize(keys, dim=1).T).max(1, keepdim=True)
        e = self.e[-1].expand(len(query), -1, -1, -1, -1) if self.training else torch.stack(list(self.e))[chosen[:, 0]]
        prefixes = {layer: self.g[i].expand(len(query), -1, -1, -1) for i, layer in enumerate(self.g_layers)}
        return Prompt(prefixes=prefixes | {layer: e[:, i] for i, layer in enumerate(self.e_layers)}, match=match)


class PromptComponents(DynamicModule):
    """Prefixes that are weighted sums of components: p = sum over m of cos(q * A_m, K_m) P_m, layer by layer.

    Smith et al. 2023, arXiv:2211.13218, Eq. 3-6. Each experience brings so many components, and those of earlier ones
    are frozen; new P, K and A start orthonormal, to the old ones too. Half of the L_p rows of P are keys of the
    attention, the others values.
    """

    def __init__(self, D: int, *, components: int, L_p: int, layers: Sequence[int]) -> None:  # noqa: N803 - the paper's names
        super().__init__()
        self.components, self.layers = components, tuple(layers)
        self.widths = {"P": L_p * D, "K": D, "A": D}
        self.blocks = nn.ParameterDict()  # "<P, K or A><number of the experience>" -> [layers, components, width]
        self.register_buffer("like", torch.empty(0), persistent=False)  # dtype and device of new components
        self.like: Tensor
        self.count = 0

    def adaptation(self, experience: Experience) -> None:
        self.blocks.requires_grad_(False)
        for kind, width in self.widths.items():
            old = self.joined(kind) if self.count else self.like.new_empty(len(self.layers), 0, width)
            self.blocks[f"{kind}{self.count}"] = nn.Parameter(orthonormal_to(old.detach(), self.components))
        self.count += 1

    def joined(self, kind: str) -> Tensor:
        """All components of a kind, P, K or A: [layers, M, width]; those of earlier experiences have no gradient."""
        return torch.cat([self.blocks[f"{kind}{number}"] for number in range(self.count)], 1)

    def forward(self, query: Tensor) -> Prompt:
        """query [B, D] -> prefixes of the layers."""
        attended = normalize(query[:, None, None] * self.joined("A"), dim=3)  # [B, layers, M, D]
        weights = (attended * normalize(self.joined("K"), dim=2)).sum(3)
        p = torch.einsum("blm,lmw->blw", weights, self.joined("P")).unflatten(2, (2, -1, query.shape[1]))
        return Prompt(prefixes={layer: p[:, i] for i, layer in enumerate(self.layers)})


@torch.no_grad()
def orthonormal_to(old: Tensor, count: int) -> Tensor:
    """So many random rows [..., count, n], of length one, orthogonal to each other and to old [..., m, n].

    Raises ValueError where n dimensions do not hold them.
    """
    m, n = old.shape[-2:]
    if m + count > n:
        raise ValueError(f"components {count} more than {m} do not fit into {n} dimensions; lower strategy.components")
    fresh = torch.randn(*old.shape[:-2], count, n, device=old.device, dtype=old.dtype)
    basis, _ = torch.linalg.qr(torch.cat((old, fresh), -2).mT)
    return basis.mT[..., m:, :].contiguous()
