"""The pictures of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clx.store.compare import Group
from clx.store.plot import heat_map, legend, new_figure, save
from clx.store.table import label


def plot_groups(groups: Sequence[Group], keys: Sequence[str], path: Path, kind: str) -> None:
    """What `clx compare --plot` draws. kind: curves, matrices, time or memory."""
    names = [f"{group.benchmark}: {label(group, keys)}" for group in groups]
    if kind == "curves":
        figure = _curves(groups, names)
    elif kind == "matrices":
        figure = _matrices(groups, names)
    else:
        figure = _trade(groups, names, *TRADES[kind])
    save(figure, path)


TRADES = {
    "time": ("cost/train_seconds", "training time in s", 1.0),
    "memory": ("cost/peak_memory_bytes", "peak memory in MiB", 2.0**20),
}


def _colours(count: int) -> Any:
    return colormaps["tab20"](np.arange(count) % 20)


def _curves(groups: Sequence[Group], names: Sequence[str]) -> Figure:
    """Mean accuracy on the test sets measured so far, after each experience, with the 95 % interval over seeds."""
    figure = new_figure(7.5, 4.4)
    axes = figure.add_subplot()
    for group, name, colour in zip(groups, names, _colours(len(groups)), strict=True):
        points = group.curve()
        if len(points) == 1 and points[0].mean is not None:  # joint training has one row: a level to compare with
            axes.axhline(points[0].mean, ls="--", lw=1.2, color=colour, label=name)
            continue
        after = np.arange(1, len(points) + 1)
        mean = np.array([p.mean for p in points], dtype=float)
        half = np.array([p.half_width or 0 for p in points], dtype=float)
        axes.plot(after, mean, "o-", ms=3, color=colour, label=name)
        axes.fill_between(after, mean - half, mean + half, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel="experiences trained", ylabel="mean accuracy so far", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)
    return figure


def _matrices(groups: Sequence[Group], names: Sequence[str]) -> Figure:
    """The accuracy matrices side by side, each the mean over the group's runs; row 0 is before training."""
    columns = min(len(groups), 4)
    rows = -(-len(groups) // columns)
    figure = new_figure(3.1 * columns + 0.6, 2.9 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.set_axis_off()
    for group, name, axes in zip(groups, names, grid.flat, strict=False):
        image = heat_map(axes, group.mean_matrix())
        axes.set_title(name.replace(": ", "\n", 1), fontsize="small")
    figure.colorbar(image, ax=grid, label="accuracy")
    return figure


def _trade(groups: Sequence[Group], names: Sequence[str], cost: str, axis: str, unit: float) -> Figure:
    """Average accuracy against a cost, each with its 95 % interval over seeds."""
    figure = new_figure(7.5, 4.4)
    axes = figure.add_subplot()
    for group, name, colour in zip(groups, names, _colours(len(groups)), strict=True):
        x, y = group.estimate(cost), group.estimate("average_accuracy")
        if x.mean is None or y.mean is None:
            continue
        xerr, yerr = (x.half_width or 0) / unit, y.half_width or 0
        axes.errorbar(x.mean / unit, y.mean, yerr, xerr, fmt="o", ms=6, lw=1, capsize=2, color=colour, label=name)
    axes.set(xlabel=axis, ylabel="average accuracy", ylim=(-0.02, 1.02))
    axes.set_xlim(left=0)
    legend(axes)
    return figure
