"""Plot a table: measured values as points, those of the paper as lines."""

from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib.figure import Figure

from experiments.tables.results import Results
from experiments.tables.table import Table


def save_plot(path: Path, table: Table, results: Results, title: str) -> None:
    """Write a PNG with a group of points per row and a point per column. Bars are standard deviations over seeds."""
    rows = list(dict.fromkeys(row for row, _ in table.cells(results.dataset)))
    published = table.paper.get(results.dataset, {})
    columns = [c for c in table.columns if published or any(results.values(table.specs[r, c].name) for r in rows)]
    figure = Figure(figsize=(max(5.0, 0.55 * len(rows) * (len(columns) + 1) + 2), 3.6), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(rows), dtype=float)
    width = 0.8 / len(columns)
    for number, column in enumerate(columns):
        seeds = [list(results.values(table.specs[row, column].name).values()) for row in rows]
        where = places + (number - (len(columns) - 1) / 2) * width
        heights = [mean(values) if values else np.nan for values in seeds]
        errors = [stdev(values) if len(values) > 1 else 0.0 for values in seeds]
        axis.errorbar(where, heights, errors, fmt="o", markersize=7, capsize=3, label=column)
        known = {x: published[row][number] for x, row in zip(where, rows, strict=True) if row in published}
        marks = [(x, value) for x, value in known.items() if value is not None]
        for x, value in marks:
            axis.hlines(value, x - 0.45 * width, x + 0.45 * width, colors="black", linewidth=1.5)
        if marks and number == len(columns) - 1:
            axis.plot([], [], color="black", linewidth=1.5, label="paper")
    axis.set_xticks(places, rows)
    axis.set_xlim(-0.5, len(rows) - 0.5)
    axis.set_ylabel("mIoU, percent")
    axis.set_title(title, fontsize=9)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
