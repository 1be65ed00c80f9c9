"""Calling a configured partial with what only the caller knows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


@functools.cache
def _accepted(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def call_offering(function: Callable[..., Any], /, *args: Any, **offers: Any) -> Any:
    """Call function(*args) with those offers that its signature names and that are not set already.

    So a model asks for `in_channels`, a scheduler for `T_max`, by naming it; nobody keeps a list.
    """
    target, bound = (function.func, function.keywords) if isinstance(function, functools.partial) else (function, {})
    wanted = _accepted(target)
    return function(*args, **{k: v for k, v in offers.items() if k in wanted and bound.get(k) is None})
