"""Samples that share their storage, batches that join, experiences written by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clx.types import Batch, Clock, Experience, Samples


def make(*values: int) -> Samples:
    """Samples whose input, class and task label say the same: v, v + 100, v + 200."""
    v = torch.tensor(values, dtype=torch.int64)
    return Samples(v.to(torch.uint8).view(-1, 1), v + 100, v + 200)


def check(samples: Samples, *values: int) -> None:
    v = torch.tensor(values, dtype=torch.int64)
    assert len(samples) == len(values)
    assert samples.raw.flatten().tolist() == list(values)
    assert samples.take(torch.arange(len(values))).flatten().tolist() == list(values)
    assert torch.equal(samples.y, v + 100)
    assert torch.equal(samples.t, v + 200)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, 3), (1, 2)),
        (slice(None, None, 2), (0, 2, 4)),
        (slice(-2, None), (3, 4)),
        (slice(5, 9), ()),
        (torch.tensor([3, 0, 3]), (3, 0, 3)),
        (torch.tensor([-1]), (4,)),
        (torch.tensor([], dtype=torch.int64), ()),
        (torch.tensor([True, False, True, False, False]), (0, 2)),
        (torch.zeros(5, dtype=torch.bool), ()),
    ],
)
def test_indexing_makes_a_view(index: Tensor | slice, expected: tuple[int, ...]) -> None:
    samples = make(0, 1, 2, 3, 4)
    view = samples[index]
    check(view, *expected)
    assert view.data is samples.data
    check(samples, 0, 1, 2, 3, 4)


def test_view_of_a_view() -> None:
    """4 3 2 1 0 of [0..4]; its positions 1 and 3 hold 3 and 1; of these the last is 1."""
    samples = make(0, 1, 2, 3, 4)
    view = samples[torch.tensor([4, 3, 2, 1, 0])][torch.tensor([1, 3])]
    check(view, 3, 1)
    check(view[torch.tensor([False, True])], 1)
    assert view.data is samples.data


def test_a_change_of_the_storage_shows_in_the_view() -> None:
    samples = make(0, 1, 2)
    view = samples[1:]
    samples.data[2] = 9
    assert view.raw.flatten().tolist() == [1, 9]


def test_sum_of_views_of_one_storage_is_a_view() -> None:
    samples = make(0, 1, 2, 3)
    both = samples[2:] + samples[torch.tensor([0, 2])]
    check(both, 2, 3, 0, 2)
    assert both.data is samples.data
    whole = samples + samples[:1]
    check(whole, 0, 1, 2, 3, 0)
    assert whole.data is samples.data


def test_sum_of_two_storages_is_a_copy() -> None:
    first, second = make(0, 1, 2), make(3, 4, 5)
    both = first[1:] + second[::2]
    check(both, 1, 2, 3, 5)
    first.data[1] = 9
    check(both, 1, 2, 3, 5)


def test_sum_with_nothing_is_the_other() -> None:
    samples, empty = make(1, 2), make()
    assert samples + empty is samples
    assert empty + samples is samples
    check(empty + empty)


@pytest.mark.parametrize("lengths", [(3, 2, 3, None), (3, 3, 2, None), (2, 3, 3, None), (3, 3, 3, 2), (3, 2, 3, 2)])
def test_samples_need_one_of_each(lengths: tuple[int, int, int, int | None]) -> None:
    x, y, t, rows = (None if n is None else torch.zeros(n, dtype=torch.int64) for n in lengths)
    with pytest.raises(ValueError, match="one of each"):
        Samples(x, y, t, rows)


class Far:
    """The same inputs, which lie in memory only once they are asked for; asked: how many were, at a time."""

    dtype, device = torch.uint8, torch.device("cpu")

    def __init__(self, *values: int) -> None:
        self.values, self.shape, self.asked = values, torch.Size((len(values), 1)), []

    def __len__(self) -> int:
        return len(self.values)

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        self.asked.append(len(index))
        return torch.tensor([self.values[row] for row in index.tolist()], dtype=torch.uint8).view(-1, 1)


def make_far(*values: int) -> Samples:
    v = torch.tensor(values, dtype=torch.int64)
    return Samples(Far(*values), v + 100, v + 200)


def test_inputs_that_are_not_in_memory() -> None:
    samples = make_far(0, 1, 2, 3)
    view = samples[torch.tensor([3, 1, 2])][1:]
    assert samples.data.asked == []  # views and labels need none
    check(view, 1, 2)
    check(samples, 0, 1, 2, 3)
    both = samples[2:] + samples[:1]
    assert both.data is samples.data
    check(both, 2, 3, 0)


@pytest.mark.parametrize(("first", "second"), [(make_far, make), (make, make_far), (make_far, make_far)])
def test_a_sum_with_inputs_that_are_not_in_memory_reads_none(
    first: Callable[..., Samples], second: Callable[..., Samples]
) -> None:
    one, other = first(0, 1, 2, 9), second(3, 4, 5)
    both = one[:3] + other[torch.tensor([2, 0])]
    assert [s.data.asked for s in (one, other) if isinstance(s.data, Far)].count([]) == 2 - (make in (first, second))
    check(both, 0, 1, 2, 5, 3)
    check(both[torch.tensor([4, 0])], 3, 0)
    check(both + make(7), 0, 1, 2, 5, 3, 7)
    assert both.take(torch.tensor([], dtype=torch.int64)).shape == (0, 1)


def test_inputs_that_do_not_fit_together() -> None:
    other = Samples(torch.zeros(2, 3), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"inputs \(1,\) torch.uint8 cannot join inputs \(3,\) torch.float32"):
        make_far(1) + other


def batch(*values: int, clock: Clock = Clock()) -> Batch:  # noqa: B008 - frozen
    """Every tensor says which sample it is about, with an offset of its own."""
    v = torch.tensor(values, dtype=torch.int64)
    return Batch(v.float().view(-1, 1), v + 100, v + 200, v.to(torch.uint8), v + 300, clock, {"logits": v + 400.0})


def test_batches_join_for_a_forward_pass() -> None:
    """x, y, t of both, this one first; the clock is this one's; what a forward never reads stays behind."""
    first, second = batch(1, 2, clock=Clock(experience=3)), batch(7, clock=Clock(experience=5))
    joint = first + second
    assert len(joint) == 3
    assert joint.x.tolist() == [[1.0], [2.0], [7.0]]
    assert joint.y.tolist() == [101, 102, 107]
    assert joint.t.tolist() == [201, 202, 207]
    assert joint.clock == Clock(experience=3)
    assert (joint.raw, joint.index, joint.fields) == (None, None, {})


def test_batch_plus_an_empty_one_is_itself() -> None:
    first = batch(1, 2)
    assert first + batch() is first
    assert (batch() + first).y.tolist() == [101, 102]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, None), [2, 3]),
        (torch.tensor([2, 0]), [3, 1]),
        (torch.tensor([False, True, False]), [2]),
        (slice(0, 0), []),
    ],
)
def test_indexing_a_batch_picks_everything(index: Tensor | slice, expected: list[int]) -> None:
    part = batch(1, 2, 3, clock=Clock(step=4))[index]
    assert len(part) == len(expected)
    assert part.x.flatten().tolist() == expected
    assert part.raw is not None
    assert part.raw.tolist() == expected
    for tensor, offset in ((part.y, 100), (part.t, 200), (part.index, 300), (part.fields["logits"], 400)):
        assert (tensor - offset).tolist() == expected
    assert part.clock == Clock(step=4)


def test_indexing_a_batch_without_raw() -> None:
    part = Batch(torch.zeros(2, 1), torch.tensor([5, 6]), torch.zeros(2))[1:]
    assert (part.raw, part.index, part.fields) == (None, None, {})
    assert part.y.tolist() == [6]


def test_an_experience_by_hand_needs_its_classes_alone() -> None:
    """Previous 0 1, here 1 2: seen 0 1 2 in order of arrival, and only 2 is new."""
    experience = Experience(index=1, classes=(1, 2), previous_classes=(0, 1))
    assert experience.classes_seen == (0, 1, 2)
    assert experience.classes_by_task == {0: (1, 2)}
    assert experience.class_ids == (1, 2)


@pytest.mark.parametrize(("previous", "new"), [((), (1, 2)), ((0, 1), (2,)), ((1, 2), ())])
def test_new_classes_of_an_experience_by_hand(previous: tuple[int, ...], new: tuple[int, ...]) -> None:
    """new_classes are those of `classes` that were never met before."""
    assert Experience(index=1, classes=(1, 2), previous_classes=previous).new_classes == new


def test_what_an_experience_is_given_stays() -> None:
    given = {"classes_seen": (2, 1, 0), "classes_by_task": {3: (1,), 4: (2,)}, "class_ids": (8, 9)}
    experience = Experience(index=0, classes=(1, 2), **given)
    assert {name: getattr(experience, name) for name in given} == given


def test_data_of_an_experience() -> None:
    samples = make(1)
    assert Experience(index=0, classes=(0,), train=samples).data is samples
    with pytest.raises(ValueError, match="experience 4 has no training samples"):
        _ = Experience(index=4, classes=(0,)).data
