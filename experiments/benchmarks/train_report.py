"""The benchmark of a training step as two tables."""

from statistics import median
from typing import Any

Result = dict[str, Any]
ROWS = [
    *("N, crop, C", "step", "images/s", "ms", "waiting for data", "CRF term"),
    *("peak MiB", "TFLOP", "TFLOP/s"),
]
TURNS = ["N, crop, C", "network", "plain loop, ms", "Lightning, ms", "difference, ms", "share", "of the turns"]
LIGHTNING = (
    "`gatedcrf fit` with the callbacks and loggers of base.yaml, logged every 10 steps, the progress bar drawn as on a "
    "terminal, beside a plain loop without any: the same network, batches and updates, float32, in alternation. Share: "
    "the median over the turns of what a step takes longer than that of the plain loop beside it."
)


def title(result: Result) -> str:
    """Return the conditions in a few sentences."""
    return (
        f"{result['hardware']}, {result['num_workers']} loader processes, median of turns in alternation. A step: "
        "standardization, network, both losses, backward, SGD; crops with clicks from image files, by the loader of a "
        "run. CRF term: its share, forward and backward, of a step on a batch in memory. Peak: weights, momentum, and "
        "what a step adds. TFLOP: convolutions and matrix products of forward and backward, counted."
    )


def tables(result: Result) -> tuple[list[list[str]], list[list[str]]]:
    """Return the lines of both tables, each with its header first: steps, and Lightning beside a plain loop."""
    sizes = list(result["sizes"].values())
    rows = [_row(size["setting"], name, row) for size in sizes for name, row in size["rows"].items()]
    return [ROWS, *rows], [TURNS, *(_turns(size["setting"], size["lightning"]) for size in sizes)]


def overhead(turns: dict[str, list[float]]) -> list[float]:
    """Return per turn by which share of a plain loop's step Lightning's is longer."""
    return [b / a - 1 for a, b in zip(turns["plain_ms"], turns["lightning_ms"], strict=True)]


def _row(setting: Result, name: str, row: Result | str) -> list[str]:
    start = [_size(setting), name]
    if isinstance(row, str):
        return [*start, row, *[""] * (len(ROWS) - 3)]
    return [
        *start,
        _number(row["images_per_second"]),
        _number(row["step_ms"]),
        f"{100 * row['wait_ms'] / row['step_ms']:.1f} %",
        f"{100 * row['term_ms'] / row['resident_ms']:.1f} %",
        f"{row['mib']:,.0f}",
        f"{row['flops'] / 1e12:.3g}",
        f"{row['flops'] / row['step_ms'] / 1e9:.3g}",
    ]


def _turns(setting: Result, turns: dict[str, list[float]]) -> list[str]:
    shares = sorted(100 * share for share in overhead(turns))
    differences = [b - a for a, b in zip(turns["plain_ms"], turns["lightning_ms"], strict=True)]
    return [
        _size(setting),
        setting["backbone"].split(".")[0],
        _number(median(turns["plain_ms"])),
        _number(median(turns["lightning_ms"])),
        f"{median(differences):.1f}",
        f"{median(shares):.1f} %",
        f"{shares[0]:.1f} to {shares[-1]:.1f} %",
    ]


def _size(setting: Result) -> str:
    return f"{setting['batch']}, {setting['crop']}, {setting['classes']}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
