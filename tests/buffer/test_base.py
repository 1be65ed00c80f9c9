"""Quotas, rows, drawing: what every buffer shares."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from clx.buffer import base
from clx.buffer.base import Buffer, quotas
from clx.buffer.class_balanced import ClassBalanced
from clx.buffer.reservoir import Reservoir
from clx.buffer.ring import Ring
from clx.build import build
from clx.config import Mistake, compose, plain
from clx.store.identity import identity
from clx.types import Batch
from clx.validation import check


@pytest.mark.parametrize(
    ("capacity", "available", "expected"),
    [
        (9, [50, 50, 50], [3, 3, 3]),
        (10, [50, 50, 50], [4, 3, 3]),
        (11, [50, 50, 50], [4, 4, 3]),
        (3, [50] * 5, [1, 1, 1, 0, 0]),
        (10, [1, 50, 50], [1, 5, 4]),
        (10, [2, 50, 1], [2, 7, 1]),
        (10, [2, 3, 1], [2, 3, 1]),
        (4, [0, 50], [0, 4]),
        (0, [5, 5], [0, 0]),
        (7, [], []),
    ],
)
def test_quotas_by_hand(capacity: int, available: list[int], expected: list[int]) -> None:
    assert quotas(capacity, available) == expected


def test_quotas_are_what_dealing_out_gives() -> None:
    """One place at a time to each class in turn, classes that have no more samples sitting out."""
    for count in range(1, 5):
        for available in itertools.product(range(5), repeat=count):
            for capacity in range(3 * count + 2):
                shares = [0] * count
                for turn in itertools.cycle(range(count)):
                    if sum(shares) == min(capacity, sum(available)):
                        break
                    shares[turn] += shares[turn] < available[turn]
                assert quotas(capacity, list(available)) == shares, (capacity, available)


def filled(capacity: int = 10, count: int = 4) -> Buffer:
    """Row i: input (i, i) as uint8, class i + 100, task label i + 200."""
    buffer = Buffer(capacity, seed=0)
    v = torch.arange(count)
    buffer.write(v, raw=torch.stack((v, v), 1).to(torch.uint8), y=v + 100, t=v + 200)
    return buffer


def test_a_draw_is_without_replacement() -> None:
    """So a draw of all, or more, is everything once, in some order; and each draw is another."""
    buffer, everything = filled(), [100, 101, 102, 103]
    for count in (4, 9):
        assert sorted(buffer.sample(count).y.tolist()) == everything
    draws = [tuple(buffer.sample(2).y.tolist()) for _ in range(200)]
    assert set(draws) == set(itertools.permutations(everything, 2))


def test_a_draw_is_ready_for_the_model() -> None:
    """x is the transformed input; raw, class and task label are of the same row."""
    buffer = filled()
    buffer.attach(lambda raw: raw.float() / 2, torch.device("cpu"))
    batch = buffer.sample(3)
    assert batch.raw is not None
    assert batch.raw.dtype == torch.uint8
    assert torch.equal(batch.raw[:, 0] + 100, batch.y)
    assert torch.equal(batch.y + 100, batch.t)
    assert torch.equal(batch.x, batch.raw / 2)
    assert batch.fields == {}


@pytest.mark.parametrize("make", [lambda: Buffer(3, 0), lambda: Buffer(0, 0)])
def test_nothing_stored(make: Callable[[], Buffer]) -> None:
    """A draw is an empty batch, which adds nothing to the batch that it is joined to."""
    buffer = make()
    assert (len(buffer), len(buffer.samples()), buffer.nbytes) == (0, 0, 0)
    drawn = buffer.sample(2)
    assert len(drawn) == 0
    stream = filled().sample(4)
    assert stream + drawn is stream


def test_the_same_seed_draws_the_same() -> None:
    draws = [[filled().sample(4).y.tolist() for _ in range(3)] for _ in range(2)]
    assert draws[0] == draws[1]
    other = filled()
    other.draw.manual_seed(1)
    assert [filled().sample(4).y.tolist(), filled().sample(4).y.tolist()] == [draws[0][0]] * 2


def test_bytes_of_what_is_stored() -> None:
    """4 samples of 2 bytes, class and task label of 8 bytes each: 4 x 18 = 72, whatever the capacity.
    Logits of 3 float32 add 4 x 12 = 48."""
    buffer = filled(capacity=10)
    assert buffer.nbytes == 72
    buffer.write(torch.arange(4), logits=torch.zeros(4, 3))
    assert buffer.nbytes == 120


def test_fields_widen_with_the_head() -> None:
    """Logits of 2 classes, then of 4: what was never said is NaN. Narrower ones leave NaN behind too."""
    buffer = filled(capacity=4, count=2)
    buffer.write(torch.tensor([0, 1]), logits=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    v = torch.tensor([2])
    wide = torch.tensor([[5.0, 6.0, 7.0, 8.0]])
    buffer.write(v, raw=torch.full((1, 2), 2, dtype=torch.uint8), y=v + 100, t=v + 200, logits=wide)
    buffer.write(torch.tensor([1]), logits=torch.tensor([[9.0, 8.0, 7.0]]))
    batch = buffer.sample(3)
    expected = {100: [1.0, 2.0, math.nan, math.nan], 101: [9.0, 8.0, 7.0, math.nan], 102: [5.0, 6.0, 7.0, 8.0]}
    for label, logits in zip(batch.y.tolist(), batch.fields["logits"], strict=True):
        torch.testing.assert_close(logits, torch.tensor(expected[label]), equal_nan=True)


def test_what_is_stored_is_a_copy_and_has_no_gradient() -> None:
    buffer, values = Buffer(2, seed=0), torch.ones(2, 3, requires_grad=True)
    labels = torch.tensor([0, 1])
    buffer.write(labels, raw=values, y=labels, t=labels)
    with torch.no_grad():
        values.zero_()
    samples = buffer.samples()
    assert samples.raw.tolist() == [[1.0] * 3] * 2
    assert not samples.raw.requires_grad
    samples.raw.zero_()
    assert buffer.samples().raw.tolist() == [[1.0] * 3] * 2


def test_state_makes_the_same_buffer() -> None:
    """Rows, extra fields and the place in the sequence of draws; and what happens to one leaves the other alone."""
    buffer, other = filled(), Buffer(10, seed=5)
    buffer.write(torch.arange(4), logits=torch.arange(8.0).view(4, 2))
    buffer.sample(2)
    other.load_state_dict(buffer.state_dict())
    for _ in range(3):
        mine, theirs = buffer.sample(3), other.sample(3)
        assert torch.equal(mine.y, theirs.y)
        assert torch.equal(mine.fields["logits"], theirs.fields["logits"])
    buffer.write(torch.tensor([0]), y=torch.tensor([999]))
    assert other.samples().y.tolist() == [100, 101, 102, 103]


def test_capacity_counts_samples() -> None:
    with pytest.raises(ValueError, match=r"^capacity -1 < 0"):
        Buffer(-1, seed=0)


@pytest.mark.parametrize("make", [Reservoir, Ring])
@pytest.mark.parametrize("sizes", [[1] * 12, [5, 7], [12]])
def test_fields_stay_beside_their_samples(make: Any, sizes: list[int], make_batch: Any) -> None:
    """Each sample's logits are (class, number) + 0.5, whichever slot it came to."""
    buffer, start = make(4, seed=1, offer="first_epoch"), 0
    for size in sizes:
        batch = make_batch({3: size}, start=start)
        buffer.add(batch, logits=batch.x + 0.5)
        start += size
    drawn = buffer.sample(4)
    assert len(drawn) == 4
    assert torch.equal(drawn.fields["logits"], drawn.x + 0.5)
    assert drawn.fields.keys() == {"logits"}


ELSEWHERE = torch.device("meta")  # tensors without content, as a GPU's without a GPU
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def homes(buffer: Buffer) -> set[str]:
    return {values.device.type for values in buffer.rows.values()}


@pytest.mark.parametrize(("chosen", "home"), [(None, "meta"), ("auto", "meta"), ("cpu", "cpu")])
def test_where_the_rows_are_kept(chosen: str | None, home: str) -> None:
    """auto: where the training is. They go there when that is known, and what comes later goes there too."""
    buffer = filled()
    if chosen is not None:
        buffer.keep_on(chosen)
    assert homes(buffer) == {"cpu"}
    buffer.attach(torch.Tensor.float, ELSEWHERE)
    assert homes(buffer) == {home}
    buffer.write(torch.tensor([5]), logits=torch.zeros(1, 3))
    assert homes(buffer) == {home}
    assert buffer.sample(2).x.device == ELSEWHERE


def test_state_comes_back_wherever_the_rows_are_kept() -> None:
    """It says nothing of a device, and goes where the loading buffer keeps its rows."""
    state = filled().state_dict()
    assert {values.device.type for values in state["rows"].values()} == {"cpu"}
    other = Buffer(10, seed=0)
    other.attach(torch.Tensor.float, ELSEWHERE)
    other.load_state_dict(state)
    assert homes(other) == {"meta"}
    assert len(other) == 4


@pytest.mark.parametrize("name", ["tpu", "cpu:1", "meta", "None", "cuda:4096"])
def test_no_such_device(name: str) -> None:
    with pytest.raises(ValueError, match=f"^device '{name}'.*use auto"):
        filled().keep_on(name)


def test_the_key_is_the_builds() -> None:
    words = ["strategy=er", "buffer.capacity=5"]
    plainly = plain(compose(words))
    assert plainly["buffer"]["device"] == "auto"
    assert build(plainly).trainer.strategy.buffer.chosen_home is None
    kept = plain(compose([*words, "buffer.device=cpu"]))
    assert build(kept).trainer.strategy.buffer.chosen_home == torch.device("cpu")
    older = plainly | {"buffer": {key: value for key, value in plainly["buffer"].items() if key != "device"}}
    check(older)
    build(older)
    assert identity(older) == identity(plainly) == identity(kept)
    with pytest.raises(Mistake, match=r"^buffer\.device 'tpu' is not known; use auto, cpu, cuda or cuda:N"):
        build(plain(compose([*words, "buffer.device=tpu"])))
    with pytest.raises(Mistake, match=r"buffer\.devise: .* has no such key.*; did you mean device\?"):
        check(plain(compose([*words, "+buffer.devise=cpu"])))


@pytest.mark.parametrize("make", [Reservoir, Ring, ClassBalanced])
def test_an_experience_at_once_is_its_samples_in_order(
    make: Any, make_experience: Any, contents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are offered at a time: the rows, their order, and what comes after."""
    found = []
    for chunk in (1000, 3, 1):
        monkeypatch.setattr(base, "CHUNK", chunk)
        buffer = make(7, seed=2, offer="experience")
        for index in range(3):
            counts = {2 * index: 9, 2 * index + 1: 4}
            buffer.consolidate(make_experience(index, counts), lambda samples: samples.raw)
        found.append((contents(buffer), buffer.sample(4).y.tolist()))
    assert found[0] == found[1] == found[2]


@GPU
@pytest.mark.parametrize("make", [Reservoir, Ring, ClassBalanced])
def test_on_a_gpu_the_same_is_kept_and_drawn(make: Any, make_batch: Any) -> None:
    found = []
    for device, home in (("cpu", "auto"), ("cuda", "auto"), ("cuda", "cpu")):
        buffer = make(7, seed=2, offer="every_epoch")
        buffer.keep_on(home)
        buffer.attach(torch.Tensor.float, torch.device(device))
        for start in range(0, 40, 4):
            batch = make_batch({start // 10: 4}, start=start)
            there = (tensor.to(device) for tensor in (batch.x, batch.y, batch.t, batch.raw))
            buffer.add(Batch(*there))
        assert homes(buffer) == {device if home == "auto" else home}
        other = make(7, seed=3, offer="every_epoch")
        other.load_state_dict(buffer.state_dict())
        found += [(b.samples().raw.tolist(), b.sample(5).raw.tolist()) for b in (buffer, other)]
    assert all(each == found[0] for each in found)
