"""Table and plot of the benchmark of the loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.benchmarks.report import Result, format_number
from experiments.tables.report import to_markdown

HEADER = [
    *("N, C, H, W", "r", "engine", "ms", "times faster", "extra MiB", "of gradient"),
    *("share of floor", "error", "bf16", "of a training step"),
]


def to_text(result: Result) -> str:
    """Return the conditions and the table as Markdown."""
    limits = result["limits"]
    conditions = (
        f"{result['hardware']}. Median time of forward and backward in float32. Floor: the longer time of moving the "
        f"bytes at {limits['bytes_per_second'] / 1e9:.0f} GB/s and computing the multiply-adds at "
        f"{limits['multiply_adds_per_second'] / 1e9:.0f} G/s, the measured speeds of a copy and a matrix product. "
        "Error: the larger one of loss and gradient, relative to float64; bf16: that of the gradient with bfloat16 "
        "predictions. Training step: DeepLab-v3+ with ResNet-34; the loss includes softmax and pooling."
    )
    return f"{conditions}\n\n{to_markdown([HEADER, *(line for size in result['sizes'] for line in _lines(size))])}"


def _lines(measured: Result) -> list[list[str]]:
    size, engines, step = measured["size"], measured["engines"], measured.get("training_step_ms")
    term, last = measured.get("term_ms"), list(engines)[-1]  # the default engine
    reference = engines["tensor"]
    found = []
    for engine, figures in engines.items():
        start = [", ".join(map(str, size["shape"])), str(size["radius"]), engine]
        if isinstance(figures, str):
            found.append([*start, figures, *[""] * (len(HEADER) - 4)])
            continue
        ms = figures["ms"]
        found.append(
            [
                *start,
                format_number(ms),
                f"{reference['ms'] / ms:.1f}" if isinstance(reference, dict) else "",
                f"{figures['mib']:.1f}",
                f"{figures['times_gradient']:.2f}",
                f"{100 * figures['share_of_floor']:.1f} %",
                f"{max(figures['gradient_error'], figures['loss_error']):.0e}",
                f"{figures['bf16']['gradient_error']:.0e}" if "bf16" in figures else "",
                f"{100 * term / (step + term):.2f} %" if engine == last and term is not None else "",
            ]
        )
    return found


def draw_plot(result: Result, path: Path) -> None:
    """Draw the times of all sizes, and below them how time grows along each dimension.

    Args:
        result: Measurements.
        path: PNG to write.
    """
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
        label = "floor" if k == 0 else None
        axis.hlines(measured["floor_ms"], k - 0.42, k + 0.42, color="black", linestyle="--", linewidth=1, label=label)
    names = [f"{', '.join(map(str, m['size']['shape']))}\nr = {m['size']['radius']}" for m in sizes]
    axis.set_xticks(range(len(sizes)), names)
    axis.set(yscale="log", ylabel="ms, forward and backward")
    axis.margins(y=0.15)
    axis.legend(ncols=4, loc="upper left", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_growth(axis: Any, name: str, measured: Sequence[Result]) -> None:
    """Draw times along one dimension in a log-log plot, with proportional growth for comparison."""
    places = {
        "N": lambda s: s["shape"][0],
        "C": lambda s: s["shape"][1],
        "H W": lambda s: s["shape"][2] * s["shape"][3],
    }
    work = [places[name](m["size"]) if name in places else (2 * m["size"]["radius"] + 1) ** 2 - 1 for m in measured]
    for color, engine in zip(("tab:orange", "tab:green"), measured[0]["ms"], strict=False):
        axis.plot(work, [m["ms"][engine] for m in measured], "o-", color=color, label=engine)
    last = measured[-1]["ms"][list(measured[-1]["ms"])[-1]]
    axis.plot(work, [last * w / work[-1] for w in work], ":", color="gray", label="proportional")
    axis.set(xscale="log", yscale="log", xlabel=name if name != "r" else "(2 r + 1)^2 - 1")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
