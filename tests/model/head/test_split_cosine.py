"""The cosine head in two blocks."""

from __future__ import annotations

import torch

from clx.model.head.cosine import CosineClassifier
from clx.model.head.split_cosine import SplitCosine
from clx.types import Experience

GROUPS = [tuple(range(10)), tuple(range(10, 20)), (3, 20), (5,)]


def test_earlier_blocks_are_merged_when_new_classes_come() -> None:
    """10 classes; 10 + 10; then one new beside an old one: 20 + 1; an old one alone changes nothing."""
    head, widths = SplitCosine(32), []
    for index, classes in enumerate(GROUPS):
        head.adaptation(Experience(index=index, classes=classes))
        widths.append({name: len(block) for name, block in head.blocks.items()})
    assert widths == [{"0": 10}, {"0": 10, "10": 10}, {"0": 20, "20": 1}, {"0": 20, "20": 1}]
    x = torch.randn(4, 32)
    assert head(x).shape == (4, 21)
    head(x).sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def test_it_scores_as_the_head_with_a_block_for_each_experience() -> None:
    """From one seed both draw the same embeddings: merging loses none and moves none."""
    heads = []
    for kind in (CosineClassifier, SplitCosine):
        torch.manual_seed(0)
        head = kind(32, scale=3.0)
        for index, classes in enumerate(GROUPS):
            head.adaptation(Experience(index=index, classes=classes))
        heads.append(head)
    x = torch.randn(4, 32)
    torch.testing.assert_close(heads[0](x), heads[1](x), rtol=0, atol=0)
