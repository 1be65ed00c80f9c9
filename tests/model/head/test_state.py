"""What a grown head has learned loads into a fresh one, wherever it is nested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from clx.model.dynamic import model_adaptation
from clx.types import Experience


@pytest.mark.parametrize("head", ["incremental", "multi_head", "cosine", "split_cosine"])
def test_a_grown_state_loads_into_a_fresh_model(head: str, make_model: Callable[..., Any]) -> None:
    """Three experiences of two classes; the fresh model has seen none, and then gives the same logits."""
    trained, fresh = make_model(head).eval(), make_model(head).eval()
    for index in range(3):
        classes = (2 * index, 2 * index + 1)
        task = index if head == "multi_head" else 0
        model_adaptation(trained, Experience(index=index, classes=classes, classes_by_task={task: classes}))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.normal_()
    x, labels = torch.randn(4, 1, 4, 4), torch.tensor([0, 2, 1, 0])
    fresh.load_state_dict(trained.state_dict(), strict=True)
    assert torch.equal(fresh(x, labels), trained(x, labels))
    nested = nn.Sequential(make_model(head)).eval()
    nested.load_state_dict(nn.Sequential(trained).state_dict(), strict=True)
    assert torch.equal(nested[0](x, labels), trained(x, labels))
    # And it goes on growing from there.
    more = Experience(index=3, classes=(6, 7), classes_by_task={3 if head == "multi_head" else 0: (6, 7)})
    model_adaptation(fresh, more)
    assert fresh(x, labels).shape == (4, 8)
    assert torch.equal(fresh(x, labels)[:, :6], trained(x, labels))


def test_units_that_never_came_stay_masked_after_loading(make_model: Callable[..., Any]) -> None:
    trained, fresh = make_model().eval(), make_model().eval()
    model_adaptation(trained, Experience(index=0, classes=(2, 4)))
    fresh.load_state_dict(trained.state_dict())
    logits = fresh(torch.randn(1, 1, 4, 4))
    assert (logits == -1000).squeeze(0).tolist() == [True, True, False, True, False]
