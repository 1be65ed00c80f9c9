"""Partials that are offered what only the caller knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from clx.runtime.call import call_offering


def function(a: int, b: int | None = None, *, c: int = 3) -> tuple[int, int | None, int]:
    return a, b, c


class Thing:
    """A class is called like a function."""

    def __init__(self, a: int, b: int = 2) -> None:
        self.values = (a, b)


def anything(**options: int) -> dict[str, int]:
    return options


@pytest.mark.parametrize(
    ("target", "offers", "expected"),
    [
        (function, {}, (1, None, 3)),
        (function, {"b": 5, "unknown": 6}, (1, 5, 3)),
        (partial(function, c=7), {"b": 5, "c": 6}, (1, 5, 7)),
        (partial(function, b=0), {"b": 5}, (1, 0, 3)),  # 0 is set
        (partial(function, b=None), {"b": 5}, (1, 5, 3)),  # null in the configuration: the caller knows
        (partial(partial(function, b=4), c=7), {"b": 5, "c": 6}, (1, 4, 7)),
    ],
)
def test_offers(target: Callable[..., Any], offers: dict[str, int], expected: object) -> None:
    assert call_offering(target, 1, **offers) == expected


def test_a_class_is_offered_what_its_constructor_names() -> None:
    assert call_offering(Thing, 1, b=5, unknown=6).values == (1, 5)
    assert call_offering(partial(Thing, b=4), 1, b=5).values == (1, 4)


def test_catch_all_arguments_name_nothing() -> None:
    assert call_offering(partial(anything, x=1), y=2) == {"x": 1}
