"""The two pictures that everyone draws of a run, and those of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clx.metric.matrix import Matrix
from clx.store.compare import Group
from clx.store.table import label

MOST_LINES = 12  # test sets drawn one by one; more would be a tangle
MOST_NUMBERS = 15  # rows and columns up to which each cell shows its value


def plot_accuracy(matrix: Matrix, title: str, path: Path) -> None:
    """Accuracy on each test set, and their mean, after each experience."""
    figure = _figure(7.5, 4.2, margins=(0.6, 2.2, 0.5, 0.4))
    axes = figure.add_subplot()
    after = np.arange(1, len(matrix))
    rows = matrix[1:]
    colours = colormaps["viridis"](np.linspace(0, 0.9, max(rows.shape[1], 1)))
    if rows.shape[1] <= MOST_LINES:
        for column in range(rows.shape[1]):
            axes.plot(after, rows[:, column], "o-", ms=3, lw=1, color=colours[column], label=f"test set {column + 1}")
    known = ~np.isnan(rows)
    mean = np.where(known, rows, 0).sum(1) / np.maximum(known.sum(1), 1)
    drawn = known.any(1)
    axes.plot(after[drawn], mean[drawn], "ks-", lw=2.2, ms=5, label="mean of those measured")
    axes.set(xlabel="experiences trained", ylabel="accuracy", ylim=(-0.02, 1.02), title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    _save(figure, path)


def plot_matrix(matrix: Matrix, title: str, path: Path) -> None:
    """The accuracy matrix as a heat map, row 0 (before training) on top."""
    rows, columns = matrix.shape
    figure = _figure(min(2.8 + 0.55 * columns, 12), min(1.8 + 0.45 * rows, 12), margins=(0.6, 0.2, 0.5, 0.4))
    axes = figure.add_subplot()
    image = _heat_map(axes, matrix)
    axes.set_title(title)
    if max(rows, columns) <= MOST_NUMBERS:
        axes.set_xticks(range(1, columns + 1))
        axes.set_yticks(range(rows))
        for row in range(rows):
            for column in range(columns):
                value = matrix[row, column]
                if not np.isnan(value):
                    colour = "white" if value < 0.6 else "black"
                    axes.text(column + 1, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize="small")
    figure.colorbar(image, label="accuracy")
    _save(figure, path)


def _heat_map(axes: Any, matrix: Matrix) -> Any:
    """Rows from 0 (before training) downwards, test sets from 1."""
    rows, columns = matrix.shape
    extent = (0.5, columns + 0.5, rows - 0.5, -0.5)
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis", aspect="auto", extent=extent)
    axes.set(xlabel="test set", ylabel="experiences trained")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return image


def _figure(width: float, height: float, margins: tuple[float, float, float, float] | None = None) -> Figure:
    """In inches. margins: left, right, bottom, top; None = as wide as the texts need, which takes twice as long."""
    figure = Figure(figsize=(width, height), layout=None if margins else "constrained")
    FigureCanvasAgg(figure)
    if margins is not None:
        left, right, bottom, top = margins
        figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    return figure


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)


def plot_groups(groups: Sequence[Group], keys: Sequence[str], path: Path, kind: str) -> None:
    """What `clx compare --plot` draws. kind: curves, matrices, time or memory."""
    names = [f"{group.benchmark}: {label(group, keys)}" for group in groups]
    if kind == "curves":
        figure = _curves(groups, names)
    elif kind == "matrices":
        figure = _matrices(groups, names)
    else:
        figure = _trade(groups, names, *TRADES[kind])
    _save(figure, path)


TRADES = {
    "time": ("cost/train_seconds", "training time in s", 1.0),
    "memory": ("cost/peak_memory_bytes", "peak memory in MiB", 2.0**20),
}


def _colours(count: int) -> Any:
    return colormaps["tab20"](np.arange(count) % 20)


def _curves(groups: Sequence[Group], names: Sequence[str]) -> Figure:
    """Mean accuracy on the test sets measured so far, after each experience, with the 95 % interval over seeds."""
    figure = _figure(7.5, 4.4)
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
    _legend(axes)
    return figure


def _matrices(groups: Sequence[Group], names: Sequence[str]) -> Figure:
    """The accuracy matrices side by side, each the mean over the group's runs; row 0 is before training."""
    columns = min(len(groups), 4)
    rows = -(-len(groups) // columns)
    figure = _figure(3.1 * columns + 0.6, 2.9 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.set_axis_off()
    for group, name, axes in zip(groups, names, grid.flat, strict=False):
        image = _heat_map(axes, group.mean_matrix())
        axes.set_title(name.replace(": ", "\n", 1), fontsize="small")
    figure.colorbar(image, ax=grid, label="accuracy")
    return figure


def _trade(groups: Sequence[Group], names: Sequence[str], cost: str, axis: str, unit: float) -> Figure:
    """Average accuracy against a cost, each with its 95 % interval over seeds."""
    figure = _figure(7.5, 4.4)
    axes = figure.add_subplot()
    for group, name, colour in zip(groups, names, _colours(len(groups)), strict=True):
        x, y = group.estimate(cost), group.estimate("average_accuracy")
        if x.mean is None or y.mean is None:
            continue
        xerr, yerr = (x.half_width or 0) / unit, y.half_width or 0
        axes.errorbar(x.mean / unit, y.mean, yerr, xerr, fmt="o", ms=6, lw=1, capsize=2, color=colour, label=name)
    axes.set(xlabel=axis, ylabel="average accuracy", ylim=(-0.02, 1.02))
    axes.set_xlim(left=0)
    _legend(axes)
    return figure


def _legend(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
