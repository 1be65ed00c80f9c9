"""Several proxies for each class."""

from __future__ import annotations

import math

import pytest
import torch

from clx.model.head.cosine import CosineClassifier
from clx.model.head.lsc import LSCClassifier
from clx.types import Experience

FIRST = Experience(index=0, classes=(0, 1))
SECOND = Experience(index=1, classes=(2,), previous_classes=(0, 1))


def grown(*experiences: Experience, proxies: int = 2, scale: float = 1.0) -> LSCClassifier:
    torch.manual_seed(0)
    head = LSCClassifier(2, proxies=proxies, scale=scale)
    for each in experiences:
        head.adaptation(each)
    return head


def test_similarity_by_hand() -> None:
    """(2, 0) to proxies (1, 0), (0, 3) of class 0: cosines 1, 0, so e / (e + 1) = 0.731059; to (-1, 0), (0, -1) of
    class 1: -1, 0, so -1 / (e + 1) = -0.268941. Three times that are the scores."""
    head = grown(FIRST, scale=3.0)
    head.blocks["0"].data = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, -1.0]])
    wanted = torch.tensor([[math.e / (math.e + 1), -1 / (math.e + 1)]])
    torch.testing.assert_close(head.cosine(torch.tensor([[2.0, 0.0]])), wanted)
    torch.testing.assert_close(head(torch.tensor([[2.0, 0.0]])), 3 * wanted)


def test_growth_leaves_old_proxies() -> None:
    head = grown(FIRST)
    old = head.blocks["0"]
    before = old.detach().clone()
    head.adaptation(SECOND)
    assert head.blocks["0"] is old
    assert torch.equal(old, before)
    assert [tuple(block.shape) for block in head.blocks.values()] == [(4, 2), (2, 2)]
    assert head.new is head.blocks["2"]
    assert head(torch.randn(3, 2)).shape == (3, 3)
    assert 0 < head.new.abs().max().item() <= 2**-0.5


def test_one_proxy_is_the_cosine_head() -> None:
    head, plain = grown(FIRST, SECOND, proxies=1), CosineClassifier(2)
    for each in (FIRST, SECOND):
        plain.adaptation(each)
    plain.load_state_dict(head.state_dict())
    x = torch.randn(5, 2)
    torch.testing.assert_close(head(x), plain(x))


def test_a_grown_head_loads_into_a_fresh_one() -> None:
    head, fresh = grown(FIRST, SECOND), grown()
    fresh.load_state_dict(head.state_dict())
    x = torch.randn(5, 2)
    assert torch.equal(fresh(x), head(x))


@pytest.mark.parametrize(("wrong", "start"), [({"proxies": 0}, "proxies 0 < 1"), ({"scale": 0.0}, "scale 0.0: must")])
def test_bad_values(wrong: dict[str, float], start: str) -> None:
    with pytest.raises(ValueError, match=f"^{start}"):
        LSCClassifier(2, **wrong)
