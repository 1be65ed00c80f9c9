"""Prompts: which a query gets, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clx.model.prompt import DualPrompts, PromptComponents, PromptPool, orthonormal_to
from clx.types import Experience

KEYS = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
HALF = math.sqrt(0.5)


def test_a_query_takes_the_prompts_of_the_nearest_keys() -> None:
    """Query (1, 1) is 45 degrees from the first two keys, 135 from the third; (-3, 4) has cosines -.6, .8, .6."""
    pool = PromptPool(2, M=3, L_p=2, N=2)
    pool.keys.data.copy_(KEYS)
    pool.prompts.data.copy_(torch.arange(12.0).view(3, 2, 2))
    prompt = pool(torch.tensor([[1.0, 1.1], [-3.0, 4.0]]))
    assert prompt.tokens.tolist() == [
        [[4.0, 5.0], [6.0, 7.0], [0.0, 1.0], [2.0, 3.0]],  # second key, then the first
        [[4.0, 5.0], [6.0, 7.0], [8.0, 9.0], [10.0, 11.0]],  # second, then the third
    ]
    torch.testing.assert_close(prompt.match[1], torch.tensor([0.8, 0.6]))


def dual() -> DualPrompts:
    """Two experiences; their E-prompts are 10 and 20, their keys (1, 0) and (0, 1); the G-prompt is 1."""
    prompts = DualPrompts(2, g_layers=[0], e_layers=[1, 3], L_g=1, L_e=2)
    for index, key in enumerate(([1.0, 0.0], [0.0, 1.0])):
        prompts.adaptation(Experience(index=index, classes=(index,)))
        prompts.e[-1].data.fill_(10.0 * (index + 1))
        prompts.keys[-1].data.copy_(torch.tensor(key))
    prompts.g.data.fill_(1.0)
    return prompts


def test_expert_prompt_by_experience_in_training_by_key_in_evaluation() -> None:
    prompts, query = dual(), torch.tensor([[3.0, 4.0], [4.0, 3.0]])
    trained, tested = prompts.train()(query), prompts.eval()(query)
    assert {layer: tuple(p.shape) for layer, p in trained.prefixes.items()} == {
        0: (2, 2, 1, 2), 1: (2, 2, 2, 2), 3: (2, 2, 2, 2)}  # fmt: skip
    for layer in (1, 3):
        assert trained.prefixes[layer][:, 0, 0, 0].tolist() == [20.0, 20.0]
        assert tested.prefixes[layer][:, 0, 0, 0].tolist() == [20.0, 10.0]
    assert bool((tested.prefixes[0] == 1).all())
    torch.testing.assert_close(trained.match, torch.tensor([[0.8], [0.6]]))
    torch.testing.assert_close(tested.match, torch.tensor([[0.8], [0.8]]))


def test_earlier_expert_prompts_are_frozen() -> None:
    prompts = dual()
    trained = [name for name, p in prompts.named_parameters() if p.requires_grad]
    assert trained == ["g", "e.1", "keys.1"]


def test_components_are_weighted_by_hand() -> None:
    """q = (1, 1). A = (1, 0): q * A = (1, 0), cosine with K = (1, 1) is sqrt(1/2). A = (1, 1): cosine with K = (0, 2)
    is sqrt(1/2) too. P = (1..4) and (2, 0, 0, 0): p = sqrt(1/2) (3, 2, 3, 4); the first row is a key, the other a
    value."""
    prompts = PromptComponents(2, components=1, L_p=2, layers=[3])
    values = (
        {"A": [1.0, 0.0], "K": [1.0, 1.0], "P": [1.0, 2.0, 3.0, 4.0]},
        {"A": [1.0, 1.0], "K": [0.0, 2.0], "P": [2.0, 0.0, 0.0, 0.0]},
    )
    for index, rows in enumerate(values):
        prompts.adaptation(Experience(index=index, classes=(index,)))
        for kind, row in rows.items():
            prompts.blocks[f"{kind}{index}"].data.copy_(torch.tensor(row))
    prompt = prompts(torch.tensor([[1.0, 1.0]]))
    assert list(prompt.prefixes) == [3]
    torch.testing.assert_close(prompt.prefixes[3], HALF * torch.tensor([[[[3.0, 2.0]], [[3.0, 4.0]]]]))
    assert sorted(name for name, p in prompts.named_parameters() if p.requires_grad) == [
        "blocks.A1", "blocks.K1", "blocks.P1"]  # fmt: skip


def loop(prompts: PromptComponents, query: Tensor, layer: int) -> Tensor:
    """Eq. 3-6 for one sample and the layer at that place: [L_p * D]."""
    A, K, P = (prompts.joined(kind)[layer] for kind in "AKP")
    terms = [torch.cosine_similarity(query * a, k, dim=0) * p for a, k, p in zip(A, K, P, strict=True)]
    return torch.stack(terms).sum(0)


def test_components_of_many_layers_and_samples_are_those_of_a_loop() -> None:
    prompts = PromptComponents(8, components=2, L_p=4, layers=[0, 2])
    for index in range(3):
        prompts.adaptation(Experience(index=index, classes=(index,)))
    query = torch.randn(3, 8)
    prefixes = prompts(query).prefixes
    for place, layer in enumerate((0, 2)):
        for sample in range(3):
            torch.testing.assert_close(prefixes[layer][sample].flatten(), loop(prompts, query[sample], place))


def test_new_components_are_orthonormal_to_all() -> None:
    prompts = PromptComponents(8, components=2, L_p=2, layers=[0, 1])
    for index in range(4):
        prompts.adaptation(Experience(index=index, classes=(index,)))
    for kind in "AKP":
        rows = prompts.joined(kind)
        torch.testing.assert_close(rows @ rows.mT, torch.eye(8).expand(2, 8, 8), atol=1e-5, rtol=0)
    old = torch.tensor([[3.0, 4.0, 0.0]])  # trained components are of any length
    fresh = orthonormal_to(old, 2)
    torch.testing.assert_close(fresh @ old.T, torch.zeros(2, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(fresh @ fresh.T, torch.eye(2), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"^components 2 more than 8 do not fit into 8 dimensions; lower strategy"):
        prompts.adaptation(Experience(index=4, classes=(4,)))
