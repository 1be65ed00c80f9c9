"""Which of the groups is better, and is that certain: paired differences to a reference, mean ranks over benchmarks."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clx.metric.paired import Difference, Ranks, difference, holm, ranks
from clx.store.compare import Group
from clx.store.records import LOWER_IS_BETTER


@dataclass(frozen=True)
class Compared:
    """A group against the reference of its stream; p_holm: p adjusted for all comparisons within the stream."""

    group: Group
    reference: Group
    difference: Difference
    p_holm: float | None


@dataclass(frozen=True)
class Ranked:
    """Mean ranks of the settings that every stream has, in the order of settings."""

    settings: list[dict[str, Any]]
    ranks: Ranks


def streams(groups: Sequence[Group], metric: str) -> list[list[Group]]:
    """The groups that have the metric, by the stream they were measured on, the best mean first: within a stream they
    can be compared number by number."""
    sign = 1 if metric in LOWER_IS_BETTER else -1
    found: dict[str, list[tuple[float, Group]]] = defaultdict(list)
    for group in groups:
        mean = group.estimate(metric).mean
        if mean is not None:
            found[group.stream].append((sign * mean, group))
    return [[group for _, group in sorted(same, key=lambda pair: pair[0])] for same in found.values()]


def by_seed(group: Group, metric: str) -> dict[int, float]:
    """The metric of each seed; where a group averages several runs of one seed, their mean."""
    gathered: dict[int, list[float]] = defaultdict(list)
    for record in group.records:
        value = record.values[metric]
        if value is not None:
            gathered[record.seed].append(value)
    return {seed: sum(values) / len(values) for seed, values in gathered.items()}


def differences(groups: Sequence[Group], metric: str, against: Mapping[str, str] | None = None) -> list[Compared]:
    """Every group minus the reference of its stream, paired by seed.

    against: settings (as text) that the reference has; None = the best group of each stream. Raises ValueError where
    a stream with several groups has none, or more than one, of these settings.
    """
    found: list[Compared] = []
    for ordered in streams(groups, metric):
        if len(ordered) < 2:
            continue
        reference = ordered[0] if against is None else _only(ordered, against)
        theirs = by_seed(reference, metric)
        others = [group for group in ordered if group is not reference]
        compared = [difference(by_seed(group, metric), theirs) for group in others]
        adjusted = holm([entry.p for entry in compared])
        found += [Compared(g, reference, d, p) for g, d, p in zip(others, compared, adjusted, strict=True)]
    return found


def mean_ranks(groups: Sequence[Group], metric: str) -> Ranked | None:
    """Ranks of the settings over the streams; None where fewer than two of each have the metric."""
    found = streams(groups, metric)
    means = [{_name(g): g.estimate(metric).mean for g in same} for same in found]
    settings = {_name(g): g.settings for same in found for g in same}
    common = [name for name in settings if all(stream.get(name) is not None for stream in means)]
    if len(found) < 2 or len(common) < 2:
        return None
    scores = np.array([[stream[name] for name in common] for stream in means], dtype=np.float64)
    ranked = ranks(-scores if metric in LOWER_IS_BETTER else scores)
    return Ranked([settings[name] for name in common], ranked)


def _name(group: Group) -> str:
    return json.dumps({k: v for k, v in group.settings.items() if not k.startswith("benchmark")}, default=str)


def _only(groups: Sequence[Group], against: Mapping[str, str]) -> Group:
    fitting = [g for g in groups if all(g.has(key, value) for key, value in against.items())]
    if len(fitting) != 1:
        words = " ".join(f"{key}={value}" for key, value in against.items())
        raise ValueError(f"--against {words}: {len(fitting)} groups of {groups[0].benchmark} have that; name one")
    return fitting[0]
