"""One page about many runs: tables, curves, matrices and costs in a single HTML file that opens without a network."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clx.metric.interval import Estimate
from clx.store.compare import Group, fields
from clx.store.differences import streams
from clx.store.files import read_json, write_atomic
from clx.store.identity import flatten, show
from clx.store.notes import notes, ranges
from clx.store.records import LOWER_IS_BETTER
from clx.store.table import cells, certainty, label

TEMPLATE = Path(__file__).with_name("report.html")
NOT_COMPARED = ("benchmark", "seed", "name", "tags")  # says nothing about what a group computes, or is the heading
HYDRAS = ("_target_", "_partial_", "_recursive_", "_convert_")  # say how an option is built, which its name says
# Of environment.json, most telling first.
FACTS = ("commit", "source", "device", "device_name", "threads", "flags", "variables", "machine", "torch", "versions")
ABSENT = "(absent)"


@dataclass(frozen=True)
class Column:
    """A column of the summary: its title, and whether the first click on it puts the largest on top."""

    title: str
    numeric: bool = False
    largest_first: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell of the summary says, the number it sorts by (None = by its text), and whether it is the best."""

    text: str
    order: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Spread:
    """Something in which groups or runs may differ. values: (value as text, who has it)."""

    name: str
    values: list[tuple[str, str]]


def write_report(
    path: Path,
    keys: Sequence[str],
    groups: Sequence[Group],
    metrics: Sequence[str],
    left_out: Sequence[tuple[Path, str]],
    title: str,
) -> None:
    """Write the page about the groups into the file.

    keys, groups: of clx.store.compare.group; metrics: the names in the summary; left_out: of records.read_all.
    Raises ImportError where plotly or jinja2 is missing, OSError where the file cannot be written.
    """
    try:
        import jinja2  # noqa: PLC0415 - optional
        from markupsafe import Markup  # noqa: PLC0415 - comes with jinja2
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError(f"a report needs plotly and jinja2 ({error}); pip install 'clx[report]'") from error
    rules = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    benchmarks = list(dict.fromkeys(group.benchmark for group in groups))
    page = rules.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        counts=_counts(groups, benchmarks, left_out),
        notes=[sentence(note) for note in notes(keys, groups)],
        benchmarks=benchmarks,
        numbered=_numbered(keys, groups),
        columns=_columns(keys, metrics),
        rows=_rows(keys, groups, metrics),
        certainty=certainty(keys, groups, metrics[0]),
        differences=_configuration(groups, benchmarks),
        environment=_environment(groups),
        left_out=left_out,
        data=Markup(_script_json(_figures(keys, groups, benchmarks))),  # noqa: S704 - has no <
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - plotly's own program
    )
    # A folder's name may hold bytes that are no text: they are spelled out.
    write_atomic(path, page.encode("utf-8", "backslashreplace"))


def _counts(groups: Sequence[Group], benchmarks: Sequence[str], left_out: Sequence[object]) -> str:
    runs = _many(sum(len(group.records) for group in groups), "run")
    more = f"; {_many(len(left_out), 'run')} left out" if left_out else ""
    return f"{runs} in {_many(len(groups), 'group')} on {_many(len(benchmarks), 'benchmark')}{more}"


def sentence(note: str) -> str:
    """With a capital and a full stop."""
    return f"{note[:1].upper()}{note[1:]}."


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _numbered(keys: Sequence[str], groups: Sequence[Group]) -> list[tuple[int, str, str]]:
    """(number from 1, benchmark, name) of each group, as it is called all over the page."""
    return [(n, group.benchmark, f"{n}: {label(group, keys) or 'all runs'}") for n, group in enumerate(groups, 1)]


def _columns(keys: Sequence[str], metrics: Sequence[str]) -> list[Column]:
    found = [Column("group", numeric=True), Column("benchmark"), *(Column(key) for key in keys)]
    found.append(Column("seeds", numeric=True, largest_first=True))
    for metric in metrics:
        up = metric not in LOWER_IS_BETTER
        found += [
            Column(metric, numeric=True, largest_first=up),
            Column("95 % interval", numeric=True, largest_first=up),
        ]
    return found


def _rows(keys: Sequence[str], groups: Sequence[Group], metrics: Sequence[str]) -> list[list[Cell]]:
    """The summary, a row a group; the best mean of each stream of data is marked."""
    _, texts = cells(keys, groups, metrics)
    best = {
        (metric, id(group))
        for metric in metrics
        for same in streams(groups, metric)
        for group in _leading(same, metric)
    }
    rows = []
    for number, (group, text) in enumerate(zip(groups, texts, strict=True), 1):
        fixed, seeds, numbers = text[: len(keys) + 1], text[len(keys) + 1], text[len(keys) + 2 :]
        values = [None, *(group.settings[key] for key in keys)]
        row = [Cell(str(number), number), *(Cell(t, _order(v)) for t, v in zip(fixed, values, strict=True))]
        row.append(Cell(seeds, len(group.seeds)))
        for position, metric in enumerate(metrics):
            mean, std, interval = numbers[3 * position : 3 * position + 3]
            e = group.estimate(metric)
            low = None if e.mean is None or e.half_width is None else e.mean - e.half_width
            row.append(Cell(mean if std == "-" else f"{mean} ± {std}", e.mean, (metric, id(group)) in best))
            row.append(Cell(interval, low))
        rows.append(row)
    return rows


def _leading(same: Sequence[Group], metric: str) -> list[Group]:
    """The best of one stream, the best first in same; several where they are equal, none where there is no other."""
    top = same[0].estimate(metric).mean
    return [group for group in same if group.estimate(metric).mean == top] if len(same) > 1 else []


def _order(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _configuration(groups: Sequence[Group], benchmarks: Sequence[str]) -> list[tuple[str, list[Spread]]]:
    """(benchmark, the keys in which its runs differ and which group has which value), seeds and names apart."""
    found = []
    for benchmark in benchmarks:
        runs = [(n, fields(r)) for n, g in enumerate(groups, 1) if g.benchmark == benchmark for r in g.records]
        first = runs[0][1]
        known = {key for _, mapping in runs for key in mapping if not key.endswith(HYDRAS)} - set(NOT_COMPARED)
        differing = [k for k in known if any(m.get(k, ABSENT) != first.get(k, ABSENT) for _, m in runs)]
        spreads = []
        for key in sorted(differing, key=lambda key: ("." in key, key)):  # options before their values
            having = defaultdict(list)
            for number, mapping in runs:
                having[show(mapping[key]) if key in mapping else ABSENT].append(number)
            spreads.append(Spread(key, [(value, _who(numbers)) for value, numbers in having.items()]))
        found.append((benchmark, spreads))
    return found


def _environment(groups: Sequence[Group]) -> tuple[list[Spread], list[Spread]]:
    """What the runs ran on: (that in which they differ, that which is the same for all)."""
    runs = [(number, _facts(record.folder)) for number, group in enumerate(groups, 1) for record in group.records]
    differing: list[Spread] = []
    same: list[Spread] = []
    names = dict.fromkeys(name for _, facts in runs for name in facts)
    for name in sorted(names, key=lambda name: FACTS.index(name.split(".")[0])):
        having = defaultdict(list)
        for number, facts in runs:
            having[facts.get(name, ABSENT)].append(number)
        values = [(value, f"{_many(len(who), 'run')}, {_who(who)}") for value, who in having.items()]
        (differing if len(values) > 1 else same).append(Spread(name, values))
    return differing, same


def _facts(folder: Path) -> dict[str, str]:
    """Name -> value of a run's environment; what cannot be read is absent."""
    try:
        content = read_json(folder / "environment.json")
    except (OSError, ValueError):
        return {}
    chosen = {name: content[name] for name in FACTS if name in content} if isinstance(content, Mapping) else {}
    return {name: "unknown" if value is None else str(value) for name, value in flatten(chosen).items() if name}


def _who(numbers: Iterable[int]) -> str:
    distinct = set(numbers)
    return f"group{'' if len(distinct) == 1 else 's'} {ranges(distinct)}"


def _figures(keys: Sequence[str], groups: Sequence[Group], benchmarks: Sequence[str]) -> dict[str, Any]:
    """What the page draws: for each group its curve, mean matrix, and accuracy and costs as [mean, half interval]."""
    return {
        "groups": [
            {
                "name": name,
                "label": label(group, keys),  # the same label, the same colour on every benchmark
                "benchmark": benchmarks.index(group.benchmark),
                "curve": [_point(point) for point in group.curve()],
                "matrix": [[_rounded(value, 3) for value in row] for row in group.mean_matrix().tolist()],
                "accuracy": _point(group.estimate("average_accuracy")),
                "time": _point(group.estimate("cost/train_seconds")),
                "memory": _point(group.estimate("cost/peak_memory_bytes"), unit=2.0**20),
            }
            for group, (_, _, name) in zip(groups, _numbered(keys, groups), strict=True)
        ],
    }


def _point(value: Estimate, unit: float = 1.0) -> list[float | None]:
    return [None if number is None else _rounded(number / unit, 4) for number in (value.mean, value.half_width)]


def _rounded(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(value, digits)


def _script_json(content: Any) -> str:
    """JSON that cannot end the script element that it lies in."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
