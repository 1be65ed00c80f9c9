"""Grouping finished runs by what they differ in, and summing up each group over its seeds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clx.metric.interval import Estimate, estimate
from clx.store.records import Record

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

    def mixed(self) -> list[str]:
        """Keys in which the runs of this group differ although they are averaged (asked for with --by)."""
        return _differing([r.leaves for r in self.records])


def group(records: Sequence[Record], by: Sequence[str] | None, order_by: str) -> tuple[list[str], list[Group]]:
    """(keys shown, groups): by the keys given, or by all in which the runs differ. Benchmarks are never mixed.

    Within a benchmark the best mean of order_by comes first. Raises ValueError for a key that no run has.
    """
    keys = shown_keys(records) if by is None else list(by)
    for key in keys:
        if not any(key in _fields(record) for record in records):
            raise ValueError(f"--by {key}: no run has that key")
    gathered: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        settings = {key: _fields(record).get(key) for key in keys}
        rest = {} if by is not None else record.leaves | {"strategy": record.strategy}
        identity = [record.benchmark, _benchmark_leaves(record), settings, rest]
        gathered[json.dumps(identity, sort_keys=True, default=str)].append(record)
    groups = [Group(r[0].benchmark, {k: _fields(r[0]).get(k) for k in keys}, r) for r in gathered.values()]

    def rank(entry: Group) -> tuple[str, float, str]:
        mean = entry.estimate(order_by).mean
        return entry.benchmark, float("inf") if mean is None else -mean, json.dumps(entry.settings, default=str)

    return keys, sorted(groups, key=rank)


def shown_keys(records: Sequence[Record]) -> list[str]:
    """strategy, then the options and values in which runs of the same benchmark differ.

    What a strategy brings counts where it differs between runs of that strategy.
    """
    found: list[str] = []
    for same in _buckets(records, lambda r: (r.benchmark,)):
        found += [key for key in _differing([_options(r) for r in same]) if key not in BROUGHT]
        alike = _buckets(same, lambda r: (_options(r)["model"], _options(r)["optimizer"], _options(r)["scheduler"]))
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


def _differing(mappings: Sequence[dict[str, Any]]) -> list[str]:
    """Keys that do not have the same value in all mappings; to lack a key is a value too."""
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    return [key for key in keys if len({json.dumps(m.get(key, "-"), default=str) for m in mappings}) > 1]


def _brought(key: str) -> bool:
    return key == ACCUMULATE or key.startswith(("strategy.", "buffer.", "regularizer", "model.head."))


def _options(record: Record) -> dict[str, Any]:
    return {name: record.config["choices"].get(name) for name in GROUPS}


def _fields(record: Record) -> dict[str, Any]:
    """Everything that runs can be grouped by: benchmark, strategy, the options, every leaf of the configuration."""
    names = {"benchmark": record.benchmark, "strategy": record.strategy}
    return record.leaves | _options(record) | names | {k: record.config.get(k) for k in ("name", "tags")}


def _benchmark_leaves(record: Record) -> dict[str, Any]:
    return {k: v for k, v in record.leaves.items() if k.startswith("benchmark.") and k != ACCUMULATE}
