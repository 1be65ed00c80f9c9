"""What heads that are computed share: means and scatters that do not depend on order, growth, loading."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clx.model.head.closed_form import LOWEST, ClassMeans, ClosedFormHead
from clx.model.head.fecam import FeCAMClassifier
from clx.model.head.ncm import NCMClassifier
from clx.model.head.ranpac import RanPACClassifier
from clx.model.head.slda import SLDAClassifier
from clx.types import Experience

HEADS: dict[str, Callable[[], ClosedFormHead]] = {
    "ncm": lambda: NCMClassifier(4),
    "slda": lambda: SLDAClassifier(4, shrinkage=0.01),
    "fecam": lambda: FeCAMClassifier(4),
    "ranpac": lambda: RanPACClassifier(4, M=16, ridge=0.1),
}


def adapted(name: str, *classes: int) -> ClosedFormHead:
    torch.manual_seed(0)
    head = HEADS[name]()
    head.adaptation(Experience(index=0, classes=classes))
    return head


def samples(count: int = 60, classes: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(count) % classes
    return torch.randn(count, 4, generator=draw).abs() + torch.eye(4)[y], y


def test_rows_and_steps_make_the_scatter() -> None:
    """Class 0: 1, 3 then 8. Mean 2, scatter 1 + 1 = 2; then mean 4, scatter 9 + 1 + 16 = 26: the step has added
    2 * 1 / 3 * 36 = 24. Class 1: 5 alone, no scatter."""
    head = ClassMeansAlone(1)
    head.adaptation(Experience(index=0, classes=(0, 1)))
    rows, steps = head.take(torch.tensor([[1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0]))
    assert rows.tolist() == [[-1], [1]]
    assert steps.tolist() == [[0], [0]]
    rows, steps = head.take(torch.tensor([[5.0], [8.0]], dtype=torch.float64), torch.tensor([1, 0]))
    assert rows.tolist() == [[0], [0]]
    assert steps.square().tolist() == [[pytest.approx(24)], [0]]
    assert head.class_means.tolist() == [[pytest.approx(4)], [5]]
    assert head.counts.tolist() == [3, 1]


class ClassMeansAlone(ClassMeans):
    def add(self, features: Tensor, y: Tensor) -> None:
        self.take(features, y)


@pytest.mark.parametrize("name", HEADS)
def test_one_by_one_in_any_order_equals_all_at_once(name: str) -> None:
    """Scores within 1e-3 of their size: the sums round differently, and some are inverted."""
    x, y = samples()
    at_once, one_by_one = adapted(name, 0, 1, 2), adapted(name, 0, 1, 2)
    at_once.add(x, y)
    for i in torch.randperm(60, generator=torch.Generator().manual_seed(1)).tolist():
        one_by_one.add(x[i : i + 1], y[i : i + 1])
    at_once.solve()
    one_by_one.solve()
    torch.testing.assert_close(one_by_one(x), at_once(x), rtol=1e-3, atol=1e-4)
    assert at_once.counts.tolist() == [20, 20, 20] == one_by_one.counts.tolist()
    assert (at_once(x).argmax(1) == y).float().mean() > 0.5  # and they tell the classes apart; chance is 1/3


@pytest.mark.parametrize("name", HEADS)
def test_experiences_apart_equal_all_classes_at_once(name: str) -> None:
    x, y = samples()
    whole, apart = adapted(name, 0, 1, 2), adapted(name, 0, 1)
    whole.add(x, y)
    whole.solve()
    apart.add(x[y < 2], y[y < 2])
    apart.solve()
    first = apart(x)
    apart.adaptation(Experience(index=1, classes=(2,), previous_classes=(0, 1)))
    torch.testing.assert_close(apart(x)[:, :2], first)
    assert bool((apart(x)[:, 2] == (-1000 if name == "ncm" else LOWEST)).all())  # no sample yet
    apart.add(x[y == 2], y[y == 2])
    apart.solve()
    torch.testing.assert_close(apart(x), whole(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_what_was_computed_loads_into_a_fresh_head_and_goes_on(name: str) -> None:
    x, y = samples()
    head, fresh = adapted(name, 0, 1, 2), HEADS[name]()
    head.add(x, y)
    head.solve()
    fresh.load_state_dict(head.state_dict(), strict=True)
    assert torch.equal(fresh(x), head(x))
    for each in (head, fresh):
        each.adaptation(Experience(index=1, classes=(3,), previous_classes=(0, 1, 2)))
        each.add(x + 1, torch.full_like(y, 3))
        each.solve()
    assert torch.equal(fresh(x), head(x))
    assert fresh(x).shape == (60, 4)


@pytest.mark.parametrize("name", HEADS)
def test_bfloat16_in_bfloat16_out(name: str) -> None:
    x, y = samples()
    head = adapted(name, 0, 1, 2)
    head.add(x.bfloat16(), y)
    head.solve()
    scores = head(x.bfloat16())
    assert scores.dtype == torch.bfloat16
    assert bool(scores.isfinite().all())
