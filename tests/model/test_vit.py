"""Vision transformers with prompts: what is inserted, against the network as timm runs it and against loops."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from clx.model.vit import Prompt, ViT, attention, check_layers

SHAPE = (1, 28, 28)  # with its frame 32x32, two by two patches


@pytest.fixture(scope="module")
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(3, "test_vit", input_shape=SHAPE).eval()


def images(count: int = 2) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_no_prompt_is_the_network_itself(vit: ViT) -> None:
    x = images()
    torch.testing.assert_close(vit.prompted(x, Prompt()), vit.features(x), rtol=0, atol=0)
    empty = torch.zeros(2, 2, 0, vit.feature_dim)
    torch.testing.assert_close(vit.prompted(x, Prompt(prefixes={0: empty, 3: empty})), vit.features(x))


def test_attention_over_a_prefix_head_by_head(vit: ViT) -> None:
    """A softmax over L + N keys, by loops over samples and heads."""
    module, width = vit.body.blocks[1].attn, vit.feature_dim
    x, prefix = torch.randn(2, 5, width), torch.randn(2, 2, 3, width)
    size, wanted = module.head_dim, torch.empty(2, 5, width)
    for sample in range(2):
        query, key, value = module.qkv(x[sample]).split(width, dim=1)
        keys, values = torch.cat((prefix[sample, 0], key)), torch.cat((prefix[sample, 1], value))
        for head in range(module.num_heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ keys[:, part].T / size**0.5
            wanted[sample, :, part] = scores.softmax(1) @ values[:, part]
    torch.testing.assert_close(attention(module, x, prefix), module.proj(wanted), atol=1e-5, rtol=1e-5)


def test_tokens_are_seen_by_all_and_their_outputs_are_the_features(vit: ViT) -> None:
    """The same through timm: tokens ahead of its own, all blocks, the final norm, the mean of the first L outputs."""
    x, tokens = images(), torch.randn(2, 4, vit.feature_dim)
    framed = nn.functional.pad(x, (2, 2, 2, 2))
    ours = vit.prompted(x, Prompt(tokens=tokens))
    embedded = vit.body._pos_embed(vit.body.patch_embed(framed))
    assert embedded.shape == (2, 1 + 4, vit.feature_dim)
    outputs = vit.body.norm(vit.body.blocks(torch.cat((tokens, embedded), 1)))
    torch.testing.assert_close(ours, outputs[:, :4].mean(1))


def test_each_sample_has_its_own_prompt(vit: ViT) -> None:
    x, tokens, prefix = images(), torch.randn(2, 4, vit.feature_dim), torch.randn(2, 2, 3, vit.feature_dim)
    both = vit.prompted(x, Prompt(tokens, {2: prefix}))
    for i in range(2):
        alone = vit.prompted(x[i : i + 1], Prompt(tokens[i : i + 1], {2: prefix[i : i + 1]}))
        torch.testing.assert_close(both[i : i + 1], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(both, vit.prompted(x, Prompt(tokens.flip(0), {2: prefix})))


class Doubled(nn.Module):
    """One token: twice the query."""

    def forward(self, query: Tensor) -> Prompt:
        return Prompt(tokens=2 * query.unsqueeze(1))


def test_inserted_prompts_freeze_the_body_and_join_the_features(vit: ViT) -> None:
    x, plain = images(), vit.features(images())
    net = copy.deepcopy(vit)
    net.insert(Doubled())
    net.train()
    assert net.classifier.training
    assert not any(module.training for module in net.body.modules())
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["classifier.weight", "classifier.bias"]
    assert torch.equal(net.query(x), plain)
    torch.testing.assert_close(net.features(x), vit.prompted(x, Prompt(2 * plain.unsqueeze(1))))


def test_other_networks_and_layers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^name resnet18: not a plain vision transformer; choose vit_base"):
        ViT(2, "resnet18", input_shape=(3, 32, 32))
    check_layers("layers", [0, 5], 6)
    for layers in ([6], [-1], [1, 1]):
        with pytest.raises(ValueError, match=r"^e_layers \[.*\]: each layer once, out of 0\.\.5"):
            check_layers("e_layers", layers, 6)
