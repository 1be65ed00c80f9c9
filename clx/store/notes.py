"""What a reader of a comparison should know besides its numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from clx.store.compare import Group
from clx.store.table import label

MOST_NAMES = 3  # groups that are named one by one


def notes(keys: Sequence[str], groups: Sequence[Group]) -> list[str]:
    """In words, without a full stop: what was compared, what is averaged, which seeds are missing where."""
    found = [f"the runs differ in {', '.join(keys)} and seed"]
    if groups and all(group.records[0].evaluated_on == "validation" for group in groups):
        found.append("all of this was measured on validation data")
    for group in groups:
        mixed = group.mixed()
        if mixed:
            found.append(f"{_name(group, keys)} averages runs that differ in {', '.join(mixed)}")
    everywhere = {seed for group in groups for seed in group.seeds}
    lacking = defaultdict(list)
    for group in groups:
        lacking[tuple(sorted(everywhere - set(group.seeds)))].append(_name(group, keys))
    for seeds, names in lacking.items():
        if seeds:
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            found.append(f"without seeds {ranges(seeds)}: {', '.join(names[:MOST_NAMES])}{more}")
    return found


def ranges(numbers: Iterable[int]) -> str:
    """1, 2, 3, 7 as 1-3, 7."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _name(group: Group, keys: Sequence[str]) -> str:
    return f"{group.benchmark} {label(group, keys)}".rstrip()
