"""Several runs side by side: their courses in lockstep, the phases at which they halt fitted as one."""

from __future__ import annotations

import contextlib
import logging
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from clx.loop.course import Course, Fitting, ShareClock
from clx.loop.group import Group
from clx.loop.stacked import Unbatchable

Around = Callable[[], contextlib.AbstractContextManager[Any]]
log = logging.getLogger("clx")


class Member:
    """One of the runs: its course, the state of its global generators while others have their turn, and its clock.

    around: entered whenever the run's own code is at work.
    """

    def __init__(self, course: Course, around: Around) -> None:
        self.course, self.around = course, around
        self.generators = _generators()
        self.clock: ShareClock | None = None
        self.fitting: Fitting | None = None  # where it halts
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Everything is this run's: generators, clock, what is around it."""
        _put_back(self.generators)
        if self.clock is not None:
            self.clock.run_at(1.0)
        try:
            with self.around():
                yield
        finally:
            self.generators = _generators()
            if self.clock is not None:
                self.clock.run_at(0.0)

    @contextlib.contextmanager
    def draws(self) -> Iterator[None]:
        """torch's generators alone, for what a training step draws: samples' augmentation, dropout."""
        torch.set_rng_state(self.generators["torch"])
        if self.generators["cuda"]:
            torch.cuda.set_rng_state_all(self.generators["cuda"])
        try:
            yield
        finally:
            self.generators["torch"] = torch.get_rng_state()
            if self.generators["cuda"]:
                self.generators["cuda"] = torch.cuda.get_rng_state_all()

    def advance(self) -> None:
        """Go on to the next phase, or to the end."""
        self._go(lambda: next(self.course))
        if self.fitting is not None and self.clock is None:
            self.clock = self.fitting.trainer.clock = ShareClock()  # goes on from the real time of now

    def throw(self, error: BaseException) -> None:
        """Let its own code see what ended all; it may not go on."""
        if not self.ended:
            self._go(lambda: self.course.throw(error))
            self.ended, self.fitting = True, None

    def _go(self, on: Callable[[], Fitting]) -> None:
        self.fitting = None
        with self.turn():
            try:
                self.fitting = on()
            except StopIteration as end:
                self.ended, self.result = True, end.value
            except BaseException as error:  # noqa: BLE001 - the others go on; it is raised when they are done
                self.ended, self.error = True, error


def together(
    courses: Sequence[Course], arounds: Sequence[Around] = (), *, stopping: Callable[[], bool] = lambda: False
) -> list[Any]:
    """Go through the courses of runs that differ by their seeds; returns what each returns.

    The phases at which they halt are fitted as one (group.py): with the random numbers that each run would have had
    alone, and its results up to the rounding of float32. Where some are behind, they catch up first. A phase that
    cannot be fitted so is fitted one run after the other. What a course raises is raised again when the others are
    through; a KeyboardInterrupt goes to all at once, unless stopping() says that they will stop by themselves.

    arounds: entered around each run's own code. Every course begins with the global generators as they are now.
    """
    members = [
        Member(course, around) for course, around in zip(courses, arounds or [_nothing] * len(courses), strict=True)
    ]
    before, said = _generators(), set[str]()
    try:
        while not all(member.ended for member in members):
            for member in members:
                if not member.ended and (member.fitting is None or member.fitting.outcome is not None):
                    member.advance()
                if isinstance(member.error, KeyboardInterrupt) and not stopping():
                    raise member.error
            _fit_those_behind([member for member in members if member.fitting is not None], said)
    except BaseException as error:
        for member in members:
            member.throw(error)
        raise
    finally:
        _put_back(before)
    for member in members:
        if member.error is not None:
            raise member.error
    return [member.result for member in members]


def refusal(courses: Sequence[Course]) -> str | None:
    """Why runs cannot be trained together, as the first phase of fresh courses shows it, or None. They are used up."""
    members = [Member(course, _nothing) for course in courses]
    before = _generators()
    try:
        for member in members:
            member.advance()
            if member.error is not None:
                raise member.error
            if member.ended:
                return "this strategy trains nothing by gradients"
        group = _group([member for member in members if member.fitting is not None])
        try:
            with _without_advice():
                group.try_one()
        finally:
            group.close()
    except Unbatchable as reason:
        return str(reason)
    finally:
        _put_back(before)
    return None


def _fit_those_behind(waiting: Sequence[Member], said: set[str]) -> None:
    """Fit the earliest of the phases at which runs halt, for all that halt there. said: why others were not."""
    places = {id(member): _place(member.fitting) for member in waiting if member.fitting is not None}
    members = [member for member in waiting if places[id(member)] == min(places.values())]
    fittings = [member.fitting for member in members if member.fitting is not None]
    if len(members) == 1:
        members[0].advance()  # it fits the phase itself
        return
    before = [dict(member.generators) for member in members]
    try:
        if members:
            _fit(members)
    except Unbatchable as reason:
        if str(reason) not in said:
            log.warning("phase %s is fitted one run after the other: %s", fittings[0].phase.name, reason)
            said.add(str(reason))
        for member, generators in zip(members, before, strict=True):
            member.generators = generators
            member.advance()
    except Exception as error:  # noqa: BLE001 - each run is told, and records it
        for fitting in fittings:
            fitting.outcome = fitting.outcome if fitting.outcome is not None else error


def _place(fitting: Fitting | None) -> tuple[int, int, int]:
    assert fitting is not None
    step = 0 if fitting.position is None else fitting.position["step"]
    return fitting.experience.index, fitting.number, step


def _fit(members: Sequence[Member]) -> None:
    group = _group(members)
    try:
        _run_clocks(members, 1 / len(members))  # what they do together counts a share for each
        with _without_advice():
            group.fit()
    finally:
        _run_clocks(members, 0.0)
        group.close()


def _group(members: Sequence[Member]) -> Group:
    fittings = [member.fitting for member in members if member.fitting is not None]

    @contextlib.contextmanager
    def turn(number: int) -> Iterator[None]:
        _run_clocks(members, 0.0)
        try:
            with members[number].turn():
                yield
        finally:
            _run_clocks(members, 1 / len(members))

    return Group(fittings, lambda number: members[number].draws(), turn)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """What vmap says where it takes an operation run by run: it is slower then, and right."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


def _run_clocks(members: Sequence[Member], rate: float) -> None:
    for member in members:
        assert member.clock is not None
        member.clock.run_at(rate)


def _generators() -> dict[str, Any]:
    """The state of the global generators, as it is quickest to take and to put back."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": np.random.get_state(legacy=True),  # noqa: NPY002 - the global generator that others draw from
        "python": random.getstate(),
    }


def _put_back(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002 - the global generator that others draw from
    random.setstate(state["python"])


_nothing = contextlib.nullcontext
