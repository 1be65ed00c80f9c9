"""The two pictures that everyone draws of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clx.metric.matrix import Matrix

MOST_LINES = 12  # test sets drawn one by one; more would be a tangle
MOST_NUMBERS = 15  # rows and columns up to which each cell shows its value


def plot_accuracy(matrix: Matrix, title: str, path: Path) -> None:
    """Accuracy on each test set, and their mean, after each experience."""
    figure = new_figure(7.5, 4.2, margins=(0.6, 2.2, 0.5, 0.4))
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
    legend(axes)
    save(figure, path)


def plot_matrix(matrix: Matrix, title: str, path: Path) -> None:
    """The accuracy matrix as a heat map, row 0 (before training) on top."""
    rows, columns = matrix.shape
    figure = new_figure(min(2.8 + 0.55 * columns, 12), min(1.8 + 0.45 * rows, 12), margins=(0.6, 0.2, 0.5, 0.4))
    axes = figure.add_subplot()
    image = heat_map(axes, matrix)
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
    save(figure, path)


def heat_map(axes: Any, matrix: Matrix) -> Any:
    """Rows from 0 (before training) downwards, test sets from 1."""
    rows, columns = matrix.shape
    extent = (0.5, columns + 0.5, rows - 0.5, -0.5)
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis", aspect="auto", extent=extent)
    axes.set(xlabel="test set", ylabel="experiences trained")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return image


def new_figure(width: float, height: float, margins: tuple[float, float, float, float] | None = None) -> Figure:
    """In inches. margins: left, right, bottom, top; None = as wide as the texts need, which takes twice as long."""
    figure = Figure(figsize=(width, height), layout=None if margins else "constrained")
    FigureCanvasAgg(figure)
    if margins is not None:
        left, right, bottom, top = margins
        figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    return figure


def save(figure: Figure, path: Path) -> None:
    """In the format that the name ends in."""
    figure.savefig(path, dpi=120)


def legend(axes: Any) -> None:
    """A grid, and the legend beside it."""
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
