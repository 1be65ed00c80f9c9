"""A comparison as a table for people, spreadsheets, papers and programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from clx.metric.interval import Estimate
from clx.store.compare import Group
from clx.store.differences import Compared, Ranked, differences, mean_ranks, streams
from clx.store.identity import show
from clx.store.printable import printable

Rows = list[list[str]]


def cells(keys: Sequence[str], groups: Sequence[Group], metrics: Sequence[str]) -> tuple[list[str], Rows]:
    """Header and rows of text: benchmark, settings, seeds, then mean, deviation and interval of each metric."""
    header = ["benchmark", *keys, "seeds"]
    for metric in metrics:
        header += [metric, "std", "95% interval"]
    rows = []
    for group in groups:
        row = [group.benchmark, *(_setting(group.settings[key]) for key in keys), str(len(group.seeds))]
        for metric in metrics:
            row += _numbers(group.estimate(metric))
        rows.append(row)
    return header, rows


def _setting(value: Any) -> str:
    return "-" if value is None else show(value)


def _numbers(value: Estimate, sign: str = "") -> list[str]:
    """Mean, deviation, interval."""
    if value.mean is None:
        return ["-", "-", "-"]
    mean = _number(value.mean, sign)
    if value.std is None or value.half_width is None:
        return [mean, "-", "-"]
    low, high = value.mean - value.half_width, value.mean + value.half_width
    return [mean, _number(value.std), f"[{_number(low, sign)}, {_number(high, sign)}]"]


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4f}" if abs(value) < 100 else f"{value:{sign},.0f}"


def difference_cells(keys: Sequence[str], compared: Sequence[Compared]) -> tuple[list[str], Rows]:
    """Header and rows of text: each group minus the reference, paired by seed."""
    header = ["benchmark", *keys, "pairs", "difference", "95% interval", "p", "p (Holm)"]
    rows = []
    for entry in compared:
        mean, _, interval = _numbers(entry.difference.estimate, sign="+")
        settings = [_setting(entry.group.settings[key]) for key in keys]
        p, holm = _probability(entry.difference.p), _probability(entry.p_holm)
        rows.append([entry.group.benchmark, *settings, str(entry.difference.estimate.n), mean, interval, p, holm])
    return header, rows


def rank_cells(keys: Sequence[str], ranked: Ranked) -> tuple[list[str], Rows]:
    """Header and rows of text: the settings by their mean rank."""
    keys = [key for key in keys if not key.startswith("benchmark")]
    pairs = sorted(zip(ranked.ranks.mean, ranked.settings, strict=True), key=lambda pair: pair[0])
    return [*keys, "mean rank"], [[*(_setting(s.get(key)) for key in keys), f"{rank:.2f}"] for rank, s in pairs]


def certainty(
    keys: Sequence[str], groups: Sequence[Group], metric: str, against: Mapping[str, str] | None = None
) -> list[tuple[str, list[str], Rows]]:
    """Further tables (title, header, rows): differences to the reference of each benchmark, ranks over several."""
    found = []
    compared = differences(groups, metric, against)
    if compared:
        references = {(e.reference.benchmark, label(e.reference, keys)) for e in compared}
        of = "; ".join(f"{name} on {benchmark}" for benchmark, name in sorted(references))
        title = f"difference in {metric} to {of}: paired by seed, p by permutation"
        found.append((title, *difference_cells(keys, compared)))
    ranked = mean_ranks(groups, metric)
    if ranked is not None:
        r = ranked.ranks
        friedman = "" if r.p is None else f", Friedman p = {r.p:.3f}"
        title = f"mean rank over {r.num_benchmarks} streams, critical difference {r.critical_difference:.2f}{friedman}"
        found.append((title, *rank_cells(keys, ranked)))
    return found


def label(group: Group, keys: Sequence[str]) -> str:
    """The group in a few words: the values of the keys."""
    return " ".join(_setting(group.settings[key]) for key in keys if group.settings[key] is not None)


def _probability(p: float | None) -> str:
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def rich_table(header: list[str], rows: Rows, title: str | None = None) -> Table:
    """For the terminal."""
    table = Table(title=None if title is None else _verbatim(title), title_justify="left")
    first = next((n for n in ("seeds", "pairs", "mean rank") if n in header), header[-1])
    for position, name in enumerate(header):
        numeric = position >= header.index(first)
        table.add_column(_verbatim(name), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        table.add_row(*map(_verbatim, row))
    return table


def _verbatim(text: str) -> Text:
    """As it is written: names from somebody else's run hold no markup, and steer no terminal."""
    return Text(printable(text))


def to_csv(header: list[str], rows: Rows) -> str:
    """Comma-separated, one line a group."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def to_markdown(header: list[str], rows: Rows) -> str:
    """A table for a README."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def to_latex(keys: Sequence[str], groups: Sequence[Group], metrics: Sequence[str]) -> str:
    """A tabular (booktabs) with mean +- deviation, in per cent where the metric is an accuracy, the best of a
    benchmark in bold."""
    columns = ["benchmark", *keys, "seeds", *metrics]
    lines = [
        rf"\begin{{tabular}}{{{'l' * (len(keys) + 1)}{'r' * (len(metrics) + 1)}}}",
        r"\toprule",
        " & ".join(_latex(name) for name in columns) + r" \\",
        r"\midrule",
    ]
    best = {(m, id(same[0])) for m in metrics for same in streams(groups, m) if len(same) > 1}
    for group in groups:
        row = [group.benchmark, *(_setting(group.settings[key]) for key in keys), str(len(group.seeds))]
        texts = [_latex(cell) for cell in row]
        texts += [_latex_number(group.estimate(m), m, bold=(m, id(group)) in best) for m in metrics]
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_number(value: Estimate, metric: str, *, bold: bool) -> str:
    if value.mean is None:
        return "--"
    scale, digits = (1, 1) if metric.startswith("cost/") else (100, 2)
    text = f"{value.mean * scale:.{digits}f}"
    text = rf"\mathbf{{{text}}}" if bold else text
    return f"${text}$" if value.std is None else rf"${text} \pm {value.std * scale:.{digits}f}$"


LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _latex(text: str) -> str:
    return text.translate(LATEX)


def to_json(
    keys: Sequence[str],
    groups: Sequence[Group],
    metrics: Sequence[str],
    left_out: Sequence[tuple[Path, str]],
    against: Mapping[str, str] | None = None,
) -> str:
    """Everything, for programs: per group the settings, seeds, folders and every metric with its values; the paired
    differences and, over several streams, the mean ranks, for each metric."""
    number = {id(group): position for position, group in enumerate(groups)}
    ranked = {metric: mean_ranks(groups, metric) for metric in metrics}
    content = {
        "keys": list(keys),
        "metrics": list(metrics),
        "groups": [
            {
                "benchmark": group.benchmark,
                "strategy": group.records[0].strategy if len({r.strategy for r in group.records}) == 1 else None,
                "evaluated_on": group.records[0].evaluated_on,
                "settings": group.settings,
                "seeds": group.seeds,
                "runs": [str(record.folder) for record in group.records],
                "metrics": {metric: _estimate(group.estimate(metric), group.values(metric)) for metric in metrics},
            }
            for group in groups
        ],
        "differences": [
            {
                "metric": metric,
                "group": number[id(entry.group)],
                "reference": number[id(entry.reference)],
                **_estimate(entry.difference.estimate),
                "p": entry.difference.p,
                "p_holm": entry.p_holm,
                "seeds": list(entry.difference.seeds),
            }
            for metric in metrics
            for entry in differences(groups, metric, against)
        ],
        "ranks": [
            {
                "metric": metric,
                "settings": found.settings,
                "mean_ranks": found.ranks.mean,
                "critical_difference": found.ranks.critical_difference,
                "friedman_p": found.ranks.p,
                "num_benchmarks": found.ranks.num_benchmarks,
            }
            for metric, found in ranked.items()
            if found is not None
        ],
        "left_out": [{"run": str(folder), "reason": reason} for folder, reason in left_out],
    }
    return json.dumps(content, indent=1) + "\n"


def _estimate(value: Estimate, values: Sequence[float] | None = None) -> dict[str, Any]:
    interval = None
    if value.mean is not None and value.half_width is not None:
        interval = [value.mean - value.half_width, value.mean + value.half_width]
    found = {"mean": value.mean, "std": value.std, "interval": interval, "n": value.n}
    return found if values is None else found | {"values": list(values)}
