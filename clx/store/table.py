"""A comparison as a table for people, spreadsheets, papers and programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from clx.metric.interval import Estimate
from clx.store.compare import Group
from clx.store.identity import show

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


def _numbers(value: Estimate) -> list[str]:
    if value.mean is None:
        return ["-", "-", "-"]
    if value.std is None or value.half_width is None:
        return [_number(value.mean), "-", "-"]
    low, high = value.mean - value.half_width, value.mean + value.half_width
    return [_number(value.mean), _number(value.std), f"[{_number(low)}, {_number(high)}]"]


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"


def rich_table(header: list[str], rows: Rows) -> Table:
    """For the terminal."""
    table = Table()
    for position, name in enumerate(header):
        numeric = position >= header.index("seeds")
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        table.add_row(*row)
    return table


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
    """A tabular (booktabs) with mean +- deviation, in per cent where the metric is an accuracy."""
    columns = ["benchmark", *keys, "seeds", *metrics]
    lines = [
        rf"\begin{{tabular}}{{{'l' * (len(keys) + 1)}{'r' * (len(metrics) + 1)}}}",
        r"\toprule",
        " & ".join(_latex(name) for name in columns) + r" \\",
        r"\midrule",
    ]
    for group in groups:
        row = [group.benchmark, *(_setting(group.settings[key]) for key in keys), str(len(group.seeds))]
        texts = [_latex(cell) for cell in row] + [_latex_number(group.estimate(m), m) for m in metrics]
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_number(value: Estimate, metric: str) -> str:
    if value.mean is None:
        return "--"
    scale, digits = (1, 1) if metric.startswith("cost/") else (100, 2)
    text = f"{value.mean * scale:.{digits}f}"
    return f"${text}$" if value.std is None else rf"${text} \pm {value.std * scale:.{digits}f}$"


LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _latex(text: str) -> str:
    return text.translate(LATEX)


def to_json(
    keys: Sequence[str], groups: Sequence[Group], metrics: Sequence[str], left_out: Sequence[tuple[Path, str]]
) -> str:
    """Everything, for programs: per group the settings, seeds, folders and every metric with its values."""
    content = {
        "keys": list(keys),
        "metrics": list(metrics),
        "groups": [
            {
                "benchmark": group.benchmark,
                "strategy": group.records[0].strategy if len({r.strategy for r in group.records}) == 1 else None,
                "settings": group.settings,
                "seeds": group.seeds,
                "runs": [str(record.folder) for record in group.records],
                "metrics": {metric: _estimate(group, metric) for metric in metrics},
            }
            for group in groups
        ],
        "left_out": [{"run": str(folder), "reason": reason} for folder, reason in left_out],
    }
    return json.dumps(content, indent=1) + "\n"


def _estimate(group: Group, metric: str) -> dict[str, Any]:
    value = group.estimate(metric)
    interval = None
    if value.mean is not None and value.half_width is not None:
        interval = [value.mean - value.half_width, value.mean + value.half_width]
    values = group.values(metric)
    return {"mean": value.mean, "std": value.std, "interval": interval, "n": value.n, "values": values}
