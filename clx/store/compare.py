"""Grouping finished runs by what they differ in, and summing up each group over its seeds."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clx.metric.interval import Estimate, estimate
from clx.metric.matrix import Matrix
from clx.metric.summary import accuracy_so_far
from clx.store.identity import nearest, show
from clx.store.records import LOWER_IS_BETTER, NAMES, Record

# Parts that a strategy brings along: across strategies they are part of the strategy, not a difference.
BROUGHT = ("strategy", "buffer", "regularizer", "model/head")
ACCUMULATE = "benchmark.accumulate"
GROUPS = ("model", "model/head", "optimizer", "scheduler", "buffer", "regularizer")


@dataclass(frozen=True)
class Group:
    """Runs that are averaged: one benchmark, one setting, several seeds."""

    benchmark: str
    settings: dict[str, Any]  # the keys that are shown, and their values here
    records: list[Record]

    @property
    def seeds(self) -> list[int]:
        return sorted({record.seed for record in self.records})

    def values(self, metric: str) -> list[float]:
        """The metric of every run that has it, by seed."""
        found = (r.values[metric] for r in sorted(self.records, key=lambda r: r.seed))
        return [value for value in found if value is not None]

    def estimate(self, metric: str) -> Estimate:
        """Mean, deviation and 95 % interval of the metric over the runs."""
        return estimate(self.values(metric))

    @property
    def stream(self) -> str:
        """The same for groups whose numbers are of the same stream of data."""
        record = self.records[0]
        return json.dumps([self.benchmark, record.evaluated_on, benchmark_leaves(record)], default=str)

    def has(self, key: str, text: str) -> bool:
        """Whether all its runs have that value, as it is typed, for the key."""
        return all(has(record, key, text) for record in self.records)

    def curve(self) -> list[Estimate]:
        """The accuracy on what was seen so far, after each experience, over the runs that measured it."""
        curves = [accuracy_so_far(record.matrix) for record in self.records]
        after = range(max(map(len, curves)))
        return [estimate([c[i] for c in curves if len(c) > i and not np.isnan(c[i])]) for i in after]

    def mean_matrix(self) -> Matrix:
        """The mean over the runs whose matrix has the shape of the first one's; NaN where one lacks the entry."""
        matrices = [record.matrix for record in self.records]
        mean: Matrix = np.mean([m for m in matrices if m.shape == matrices[0].shape], axis=0)
        return mean

    def mixed(self) -> list[str]:
        """Keys in which the runs of this group differ although they are averaged (asked for with --by)."""
        return _differing([r.leaves for r in self.records])


def group(records: Sequence[Record], by: Sequence[str] | None, order_by: str) -> tuple[list[str], list[Group]]:
    """(keys shown, groups): by the keys given, or by all in which the runs differ. Benchmarks are never mixed.

    Within a benchmark the best mean of order_by, a metric, comes first. Raises ValueError for a key that no run has.
    """
    keys = shown_keys(records) if by is None else list(by)
    for key in keys:
        if not any(key in fields(record) for record in records):
            known = fields(records[0]) if records else ()
            raise ValueError(f"--by {key}: no run has that key{nearest(key, known)}")
    gathered: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        settings = {key: fields(record).get(key) for key in keys}
        rest = {} if by is not None else record.leaves | {"strategy": record.strategy}
        identity = [record.benchmark, benchmark_leaves(record), settings, rest]
        gathered[json.dumps(identity, sort_keys=True, default=str)].append(record)
    groups = [Group(r[0].benchmark, {k: fields(r[0]).get(k) for k in keys}, r) for r in gathered.values()]

    return keys, ordered(groups, order_by)


def ordered(groups: Sequence[Group], by: str, *, descending: bool | None = None) -> list[Group]:
    """The groups of each benchmark by a metric (descending None = the best first) or by a setting.

    Raises ValueError for a name that is neither.
    """
    if by not in NAMES and not any(by in group.settings for group in groups):
        raise ValueError(f"--sort {by}: neither a metric nor a key shown{nearest(by, [*NAMES, *groups[0].settings])}")
    down = by in NAMES and by not in LOWER_IS_BETTER if descending is None else descending

    def value(group: Group) -> Any:
        return group.estimate(by).mean if by in NAMES else group.settings[by]

    def place(group: Group) -> tuple[bool, Any]:
        number = isinstance(value(group), int | float)
        return number, value(group) if number else show(value(group))

    def name(group: Group) -> str:
        return json.dumps(group.settings, default=str)

    known = sorted((g for g in groups if value(g) is not None), key=name)
    unknown = sorted((g for g in groups if value(g) is None), key=name)
    return sorted([*sorted(known, key=place, reverse=down), *unknown], key=lambda group: group.benchmark)


def shown_keys(records: Sequence[Record]) -> list[str]:
    """strategy, then the options and values in which runs of the same benchmark differ.

    What a strategy brings counts where it differs between runs of that strategy.
    """
    found: list[str] = []
    for same in _buckets(records, lambda r: (r.benchmark,)):
        found += [key for key in _differing([_options(r) for r in same]) if key not in BROUGHT]
        alike = _buckets(same, lambda r: tuple(str(_options(r)[k]) for k in ("model", "optimizer", "scheduler")))
        for bucket in alike:
            leaves = [{k: v for k, v in r.leaves.items() if not _brought(k)} for r in bucket]
            found += _differing(leaves)
        for own in _buckets(same, lambda r: (r.strategy,)):
            found += _differing([_options(r) for r in own])
            for equal in _buckets(own, lambda r: tuple(json.dumps(o) for o in _options(r).values())):
                found += _differing([r.leaves for r in equal])
    return ["strategy", *sorted({key for key in found if not key.endswith("_target_")})]


def _buckets(records: Sequence[Record], key: Any) -> list[list[Record]]:
    gathered: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        gathered[key(record)].append(record)
    return list(gathered.values())


def _differing(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys that do not have the same value in all mappings; to lack a key is a value too."""
    found = dict.fromkeys(key for mapping in mappings for key in mapping)
    first = mappings[0]
    return [key for key in found if any(m.get(key, LACKS) != first.get(key, LACKS) for m in mappings)]


LACKS = object()


def _brought(key: str) -> bool:
    return key == ACCUMULATE or key.startswith(("strategy.", "buffer.", "regularizer", "model.head."))


def _options(record: Record) -> dict[str, Any]:
    return {name: record.config["choices"].get(name) for name in GROUPS}


def fields(record: Record) -> dict[str, Any]:
    """Everything that runs can be grouped by: benchmark, strategy, the options, every leaf of the configuration."""
    names = {"benchmark": record.benchmark, "strategy": record.strategy, "seed": record.seed}
    return record.leaves | _options(record) | names | {k: record.config.get(k) for k in ("name", "tags")}


def benchmark_leaves(record: Record) -> dict[str, Any]:
    """The keys of the stream itself."""
    return {k: v for k, v in record.leaves.items() if k.startswith("benchmark.") and k != ACCUMULATE}


def has(record: Record, key: str, text: str) -> bool:
    """Whether the run's value for the key is what is typed: as a word, or as the same number."""
    value = fields(record).get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return text in (show(value), str(value))


def where(records: Sequence[Record], conditions: Sequence[str]) -> list[Record]:
    """The runs that fulfil every condition, KEY=VALUE[,VALUE...] or KEY!=VALUE[,VALUE...].

    Raises ValueError for a condition that cannot be read, and for a key that no run has.
    """
    for condition in conditions:
        match = re.fullmatch(r"([^=!]+)(!?)=(.*)", condition)
        if match is None:
            raise ValueError(f"--where {condition}: must be KEY=VALUE[,VALUE...] or KEY!=VALUE[,VALUE...]")
        key, no, text = match.groups()
        if records and not any(key in fields(record) for record in records):
            raise ValueError(f"--where {condition}: no run has the key {key}{nearest(key, fields(records[0]))}")
        values = [text] if text.startswith("[") else text.split(",")
        records = [r for r in records if any(has(r, key, value) for value in values) != bool(no)]
    return list(records)
