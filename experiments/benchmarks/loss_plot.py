"""Plot of the benchmark of the loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.benchmarks.report import Result, format_number


def draw_plot(result: Result, path: Path) -> None:
    """Write a PNG: the time of each size and engine, and below it the growth along each dimension."""
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, max(1, len(result["scaling"])), height_ratios=[1.1, 1])
    _draw_sizes(figure.add_subplot(grid[0, :]), result["sizes"])
    for place, (name, measured) in enumerate(result["scaling"].items()):
        _draw_growth(figure.add_subplot(grid[1, place]), name, measured)
    figure.suptitle(result["hardware"])
    figure.savefig(path, dpi=110)


def _draw_sizes(axis: Any, sizes: Sequence[Result]) -> None:
    engines = list(sizes[0]["engines"])
    for place, engine in enumerate(engines):
        times = [m["engines"][engine]["ms"] if isinstance(m["engines"][engine], dict) else 0 for m in sizes]
        bars = axis.bar([k + 0.27 * (place - 1) for k in range(len(sizes))], times, 0.25, label=engine)
        axis.bar_label(bars, [format_number(t) if t else "does\nnot fit" for t in times], fontsize=8)
    for k, measured in enumerate(sizes):
        label = "lower bound" if k == 0 else None
        axis.hlines(measured["floor_ms"], k - 0.42, k + 0.42, color="black", linestyle="--", linewidth=1, label=label)
    names = [f"{', '.join(map(str, m['size']['shape']))}\nr = {m['size']['radius']}" for m in sizes]
    axis.set_xticks(range(len(sizes)), names)
    axis.set(yscale="log", ylabel="ms, forward and backward")
    axis.margins(y=0.15)
    axis.legend(ncols=4, loc="upper left", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_growth(axis: Any, name: str, measured: Sequence[Result]) -> None:
    """Draw times on logarithmic axes. A dotted line shows proportional growth."""
    work = [_work(name, m["size"]) for m in measured]
    for color, engine in zip(("tab:orange", "tab:green"), measured[0]["ms"], strict=False):
        axis.plot(work, [m["ms"][engine] for m in measured], "o-", color=color, label=engine)
    last = list(measured[-1]["ms"].values())[-1]
    axis.plot(work, [last * w / work[-1] for w in work], ":", color="gray", label="proportional")
    axis.set(xscale="log", yscale="log", xlabel=name if name != "r" else "(2 r + 1)^2 - 1")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)


def _work(name: str, size: Result) -> int:
    n, classes, height, width = size["shape"]
    work: dict[str, int] = {"N": n, "C": classes, "H W": height * width, "r": (2 * size["radius"] + 1) ** 2 - 1}
    return work[name]
