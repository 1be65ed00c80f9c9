"""When a checkpoint is due: by experiences, epochs, or a clock that the test moves."""

from __future__ import annotations

import pytest

from clx.store import due as module
from clx.store.due import Due


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """clock[0] is the time in s."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_auto_waits_for_the_end_of_an_experience_and_for_half_a_minute(clock: list[float]) -> None:
    due = Due("auto")
    clock[0] += 29.9
    assert not due.experience()
    clock[0] += 0.1
    assert not due.step(ended=True)
    assert due.experience()
    due.written()
    assert not due.experience()


def test_each_experience(clock: list[float]) -> None:
    due = Due("experience")
    assert not due.step(ended=True)
    assert due.experience()
    due.written()
    assert due.experience()


@pytest.mark.parametrize("every", ["3", "3 epochs", 3, " 3epochs"])
def test_epochs_are_counted_through_phases_and_experiences(every: str | int) -> None:
    due = Due(every)
    told = []
    for step in range(1, 13):
        told.append(due.step(ended=step % 2 == 0))
        if told[-1]:
            due.written()
    assert [number + 1 for number, one in enumerate(told) if one] == [6, 12]
    assert not due.experience()


@pytest.mark.parametrize(("every", "seconds"), [("90s", 90.0), ("0.5 s", 0.5), ("5min", 300.0), ("2 h", 7200.0)])
def test_a_time_counts_from_the_last_one_written(every: str, seconds: float, clock: list[float]) -> None:
    due = Due(every)
    for _ in range(2):
        clock[0] += seconds - 0.25
        assert not due.step(ended=True)
        assert not due.experience()
        clock[0] += 0.25
        assert due.step(ended=False)
        assert due.experience()
        due.written()


@pytest.mark.parametrize("every", ["", "0", "0s", "-1", "1.5", "often", "3 weeks", "nan", "1e3", "9" * 400 + ".5"])
def test_anything_else_is_refused(every: str) -> None:
    with pytest.raises(ValueError, match=r"^checkpoint_every .*must be auto, experience, a number of epochs such as 5"):
        Due(every)


def test_a_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock jumps a year ahead, and back."""
    due = Due("1h")
    wall = module.time.time()
    for jump in (3e7, -3e7):
        monkeypatch.setattr(module.time, "time", lambda jump=jump: wall + jump)
        assert not due.experience()
