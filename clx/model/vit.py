"""Vision transformers of timm that prompts can be put into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from clx.model.packaged import Shape, framed
from clx.model.timm import TimmNet


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes into a transformer beside the images of a batch.

    tokens [B, L, D]: before all other tokens, at the first layer; None = none. prefixes: layer -> [B, 2, L, D], more
    keys and more values of its attention, after their projection. match [B, n]: the cosines by which n of them were
    chosen for each sample, None where nothing was chosen.
    """

    tokens: Tensor | None = None
    prefixes: Mapping[int, Tensor] = field(default_factory=dict)
    match: Tensor | None = None


class ViT(TimmNet):
    """A vision transformer of timm by its name; with prompts its body is frozen, and they choose what joins an image.

    prompts: None, or a module from queries [B, D] to a Prompt; a query is the image's features without any prompt.
    """

    def __init__(
        self,
        num_classes: int = 10,
        name: str = "vit_base_patch16_224",
        weights: str | None = None,
        input_shape: Shape = (3, 224, 224),
    ) -> None:
        super().__init__(num_classes, name, weights, input_shape)
        if not _plain(self.body):
            raise ValueError(f"name {name}: not a plain vision transformer; choose vit_base_patch16_224 or the like")
        self.prompts: nn.Module | None = None

    @property
    def blocks(self) -> Any:
        """The transformer's layers."""
        return self.body.blocks

    def insert(self, prompts: nn.Module) -> None:
        """Put prompts in, and freeze the body: no gradient, and always in eval mode."""
        self.prompts = prompts
        self.body.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> ViT:
        super().train(mode)
        if self.prompts is not None:
            self.body.eval()
        return self

    @torch.no_grad()
    def query(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> features [B, D] without prompts."""
        return super().features(x)

    def features(self, x: Tensor) -> Tensor:
        return super().features(x) if self.prompts is None else self.prompted(x, self.prompts(self.query(x)))

    def prompted(self, x: Tensor, prompt: Prompt) -> Tensor:
        """x [B, C, H, W] -> features [B, D] of the body in eval mode, with the prompt.

        They are the network's own, or with prompt.tokens the mean output at these (Wang et al. 2022, L2P, Sec. 4.1).
        """
        body: Any = self.body
        x = body.norm_pre(body._pos_embed(body.patch_embed(framed(x, self.padding))))
        if prompt.tokens is not None:
            x = torch.cat((prompt.tokens, x), 1)
        for layer, block in enumerate(self.blocks):
            prefix = prompt.prefixes.get(layer)
            x = block(x) if prefix is None else _prefixed(block, x, prefix)
        x = body.norm(x)
        if prompt.tokens is None:
            return body.forward_head(x, pre_logits=True)
        return body.fc_norm(x[:, : prompt.tokens.shape[1]].mean(1))


def check_layers(name: str, layers: Sequence[int], depth: int) -> None:
    """Raise ValueError where `layers`, the parameter of that name, are not some of 0..depth - 1, each once."""
    if len(set(layers)) < len(layers) or not set(layers) <= set(range(depth)):
        raise ValueError(f"{name} {list(layers)}: each layer once, out of 0..{depth - 1}, the layers of this network")


def attention(module: Any, x: Tensor, prefix: Tensor) -> Tensor:
    """x [B, N, D] through timm's attention, over prefix [B, 2, L, D] too, keys and values of all heads: [B, N, D]."""
    query, key, value = (_heads(part, module.num_heads) for part in module.qkv(x).chunk(3, 2))
    more_keys, more_values = (_heads(part, module.num_heads) for part in prefix.unbind(1))
    query, key = module.q_norm(query), module.k_norm(key)
    keys, values = torch.cat((more_keys.to(key), key), 2), torch.cat((more_values.to(value), value), 2)
    out = scaled_dot_product_attention(query, keys, values)
    return module.proj(out.transpose(1, 2).flatten(2))


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, N, D] -> [B, heads, N, D / heads]."""
    return x.unflatten(2, (num_heads, -1)).transpose(1, 2)


def _prefixed(block: Any, x: Tensor, prefix: Tensor) -> Tensor:
    """timm's Block in eval mode, its attention over the prefix too."""
    x = x + block.ls1(attention(block.attn, block.norm1(x), prefix))
    return x + block.ls2(block.mlp(block.norm2(x)))


def _plain(body: nn.Module) -> bool:
    """Whether the body is made of the blocks that are run here step by step."""
    from timm.models import vision_transformer  # noqa: PLC0415 - of an extra, which TimmNet has found

    kind: Any = vision_transformer
    if not isinstance(body, kind.VisionTransformer):
        return False
    return all(
        type(block) is kind.Block
        and type(block.attn) is kind.Attention
        and isinstance(getattr(block.attn, "norm", None), nn.Identity | None)
        and getattr(block.attn, "gate", None) is None
        for block in body.blocks
    )
