"""What a signal does to a run, told by real signals that the process sends to itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from clx.runtime.signals import terminable


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The process's own, put back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_a_request_and_the_second_an_exception(number: int) -> None:
    with terminable() as stop:
        stop.listening = True
        assert not stop()
        send(number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_nobody_listens_the_first_is_an_exception(number: int) -> None:
    with terminable() as stop, pytest.raises(KeyboardInterrupt):
        send(number)
    assert not stop()


def test_handlers_are_put_back() -> None:
    def mine(*_: Any) -> None:
        pass

    signal.signal(signal.SIGTERM, mine)
    with terminable():
        assert signal.getsignal(signal.SIGTERM) is not mine
    assert signal.getsignal(signal.SIGTERM) is mine


class Launcher:
    """Queues the job again when its signal comes, as a scheduler's does, and ends the process."""

    def __init__(self) -> None:
        self.told: list[int] = []
        signal.signal(signal.SIGUSR2, self.queue_again)
        signal.signal(signal.SIGTERM, lambda *_: None)  # sent ahead of the other; it lets it pass

    def queue_again(self, number: int, frame: Any) -> None:
        self.told.append(number)
        raise SystemExit(-1)


def test_a_launchers_signal_stops_the_run_first_and_is_handed_on_when_it_is_written_down() -> None:
    launcher = Launcher()
    with terminable() as stop:
        stop.listening = True
        send(signal.SIGUSR2)
        assert stop()
        assert launcher.told == []
        with pytest.raises(SystemExit):
            stop.hand_on()
    assert launcher.told == [signal.SIGUSR2]


def test_before_the_run_listens_a_launchers_signal_is_handed_on_at_once() -> None:
    launcher = Launcher()
    with terminable(), pytest.raises(SystemExit):
        send(signal.SIGUSR2)
    assert launcher.told == [signal.SIGUSR2]


def test_under_a_launcher_sigterm_asks_for_a_checkpoint_only() -> None:
    Launcher()
    with terminable() as stop:
        stop.listening = True
        send(signal.SIGTERM)
        assert not stop()
        assert [stop.asked(), stop.asked()] == [True, False]
        send(signal.SIGINT)
        assert stop()
        stop.hand_on()  # nothing to hand on


def test_one_run_inside_another_ones_handlers() -> None:
    """A sweep has its own, and the run that goes on inside takes the signal."""
    with terminable() as outer, terminable() as inner:
        outer.listening = inner.listening = True
        send(signal.SIGTERM)
        assert inner()
        assert not outer()
