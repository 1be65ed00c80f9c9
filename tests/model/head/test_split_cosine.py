"""The cosine head that tells old embeddings from new ones."""

from __future__ import annotations

import torch

from clx.model.head.cosine import CosineClassifier
from clx.model.head.split_cosine import SplitCosine
from clx.types import Experience

GROUPS = [tuple(range(10)), tuple(range(10, 20)), (3, 20), (5,)]


def test_earlier_blocks_are_old_and_the_last_is_new() -> None:
    """10 classes; 10 + 10; then one new beside an old one: 20 + 1; an old one alone changes nothing."""
    head, widths = SplitCosine(32), []
    for index, classes in enumerate(GROUPS):
        head.adaptation(Experience(index=index, classes=classes))
        widths.append((sum(len(block) for block in head.old), len(head.new)))
    assert widths == [(0, 10), (10, 10), (20, 1), (20, 1)]
    x = torch.randn(4, 32)
    assert head(x).shape == (4, 21)
    head(x).sum().backward()
    assert all(p.grad is not None for p in (*head.old, head.new, head.scale))


def test_it_scores_as_the_plain_cosine_head() -> None:
    """From one seed both draw the same embeddings."""
    heads = []
    for kind in (CosineClassifier, SplitCosine):
        torch.manual_seed(0)
        head = kind(32, scale=3.0)
        for index, classes in enumerate(GROUPS):
            head.adaptation(Experience(index=index, classes=classes))
        heads.append(head)
    x = torch.randn(4, 32)
    torch.testing.assert_close(heads[0](x), heads[1](x), rtol=0, atol=0)
