"""What a signal asks of a run: to stop where it can go on from, or only to write down where it stands."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)
OF_LAUNCHERS = (signal.SIGUSR1, signal.SIGUSR2)  # by which a scheduler says that time is up
Handler = Callable[[int, Any], Any]


class Stop:
    """The first signal is a request where somebody listens; otherwise, and from the second on, it is an exception.

    launcher: the handler that a launcher has set for a signal of its own; it is called once the run is written down,
    and queues the job again. Where there is one, SIGTERM asks for a checkpoint only: a scheduler sends it first to
    jobs that it is about to preempt, and to those that it will kill.
    """

    def __init__(self) -> None:
        self.listening = False
        self.requested = False
        self.wanted = False  # a checkpoint, without a stop
        self.launchers: dict[int, Handler] = {}
        self._then: Callable[[], Any] = lambda: None

    def __call__(self) -> bool:
        """Whether to stop where it can go on from."""
        return self.requested

    def asked(self) -> bool:
        """Whether a checkpoint was asked for since the last time that this was called."""
        asked, self.wanted = self.wanted, False
        return asked

    def hand_on(self) -> None:
        """Call the launcher's handler of the signal that ended the run, if it was one of those."""
        self._then()

    def signalled(self, number: int, frame: Any) -> None:
        """The handler of all of them."""
        if number == signal.SIGTERM and self.launchers:
            self.wanted = self.listening
            return
        if number in self.launchers and not self.requested:
            handler = self.launchers[number]
            if not self.listening:
                handler(number, frame)
                return
            self._then = lambda: handler(number, None)
        elif not self.listening or self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextlib.contextmanager
def terminable() -> Iterator[Stop]:
    """SIGINT and SIGTERM end a run the same way, so does a launcher's own signal: its state is recorded. Only the
    main thread can set handlers.

    Set, not inherited: a shell starts its background jobs with SIGINT ignored.
    """
    stop = Stop()
    for number in OF_LAUNCHERS:
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(getattr(handler, "__self__", None), Stop):
            stop.launchers[number] = handler
    try:
        before = {int(number): signal.signal(number, stop.signalled) for number in (*STOPPING, *stop.launchers)}
    except ValueError:
        yield stop
        return
    try:
        yield stop
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)
