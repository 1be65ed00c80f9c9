"""CODA-Prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clx.buffer.base import Buffer
from clx.loss.prompt import orthogonality
from clx.model.base import Model
from clx.model.prompt import PromptComponents
from clx.model.vit import Prompt, ViT, check_layers
from clx.strategy.prompting import Prompting


class CODAPrompt(Prompting):
    """Prefixes in a frozen vision transformer that are sums of components, weighted by each image.

    Smith et al. 2023, arXiv:2211.13218, Eq. 3-8. M / N -> components, added by each experience (the paper shares
    M = 100 among N experiences); L_p -> L_p, rows of a component, half of them keys of the attention and half values;
    layers: those with prompts; lambda -> lamda, weight of the orthogonality of all components P, keys K and attentions
    A. There is no setting at which it is finetune: the network is frozen.
    Differs from the paper: the orthogonality is a mean over the entries of B B' - I, not their sum; the authors' code
    takes the mean too, and a millionth of it.
    """

    def __init__(
        self,
        model: Model,
        buffer: Buffer | None = None,
        *,
        components: int,
        L_p: int,  # noqa: N803 - the paper's name
        layers: Sequence[int],
        lamda: float,
    ) -> None:
        super().__init__(model, buffer)
        if components < 1:
            raise ValueError(f"components {components} < 1; each experience needs one")
        if L_p < 2 or L_p % 2:
            raise ValueError(f"L_p {L_p}: half are keys and half values; give an even number from 2 on")
        if lamda < 0:
            raise ValueError(f"lamda {lamda} < 0; 0 switches it off")
        self.components, self.lamda = components, lamda
        if isinstance(model, ViT):
            check_layers("layers", layers, len(model.blocks))
            model.insert(PromptComponents(model.feature_dim, components=components, L_p=L_p, layers=layers))

    def conflict(self, benchmark: Any) -> str | None:
        needed = self.components * len(benchmark.train)
        if needed > self.model.feature_dim and isinstance(self.model, ViT):
            return (
                f"strategy.components={self.components}: {len(benchmark.train)} experiences make {needed}, more than "
                f"the {self.model.feature_dim} features in which they are to be orthogonal; lower it"
            )
        return super().conflict(benchmark)

    def penalty(self, prompt: Prompt) -> dict[str, Tensor]:
        assert isinstance(self.model, ViT)
        prompts = self.model.prompts
        assert isinstance(prompts, PromptComponents)
        if self.lamda == 0:
            return {}
        gaps = [orthogonality(prompts.joined(kind)) for kind in prompts.widths]
        return {"orthogonality": self.lamda * torch.stack(gaps).sum()}
