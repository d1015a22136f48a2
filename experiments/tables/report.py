"""A table of the paper with what was measured: lines of text, and the forms in which they are written."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from rich.table import Table as RichTable

from experiments.tables.results import Results
from experiments.tables.table import Table, full_supervision

Lines = list[list[str]]
"""A header, then lines; the first cell of a line that explains the one above is empty."""


def lines(table: Table, results: Results) -> Lines:
    """Return per row what was measured, what the paper reports and the difference, and what others report.

    W/F is the best weakly supervised value of a row over full supervision with pCE alone, percent, as in Table 5.
    """
    dataset, columns = results.dataset, list(table.columns)
    reference, published = full_supervision(dataset)
    full = _mean(results.values(reference))
    shown: Lines = [["", "mIoU, percent", *columns, "W/F"]]
    for row in dict.fromkeys(row for row, _ in table.cells(dataset)):
        seeds = [results.values(table.specs[row, column].name) for column in columns]
        ours = [_mean(values) for values in seeds]
        paper = table.paper.get(dataset, {}).get(row, [None] * len(columns))
        weak = [table.specs[row, column].weak for column in columns]
        shown.append([row, dataset, *map(_show, seeds), _ratio(ours, weak, full)])
        for name, rows in table.paper.items():
            if row in rows and (name == dataset or dataset not in table.paper):
                theirs = _ratio(rows[row], weak, full_supervision(name)[1])
                shown.append(["", f"paper, {name}", *(_number(value) for value in rows[row]), theirs])
        pairs = zip(ours, paper, strict=True)
        difference = ["" if a is None or b is None else f"{a - b:+.2f}" for a, b in pairs]
        if any(difference):
            shown.append(["", "difference", *difference, _difference(ours, paper, weak, full, published)])
    for method, others in table.others.get(dataset, {}).items():
        shown.append(
            [method, "published", *(_number(value) for value in others), _ratio(others, [True, False], others[1])]
        )
    return shown


def _mean(seeds: Mapping[int, float]) -> float | None:
    return mean(seeds.values()) if seeds else None


def _show(seeds: Mapping[int, float]) -> str:
    deviation = f" ± {stdev(seeds.values()):.2f}" if len(seeds) > 1 else ""
    return f"{mean(seeds.values()):.2f}{deviation}" if seeds else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(values: Sequence[float | None], weak: Sequence[bool], full: float | None) -> float | None:
    known = [value for value, is_weak in zip(values, weak, strict=True) if value is not None and is_weak]
    return 100 * max(known) / full if known and full else None


def _ratio(values: Sequence[float | None], weak: Sequence[bool], full: float | None) -> str:
    return _number(_share(values, weak, full))


def _difference(
    ours: Sequence[float | None],
    paper: Sequence[float | None],
    weak: Sequence[bool],
    full: float | None,
    published: float | None,
) -> str:
    left, right = _share(ours, weak, full), _share(paper, weak, published)
    return "" if left is None or right is None else f"{left - right:+.2f}"


def to_rich(shown: Lines, title: str) -> RichTable:
    """Return lines for the terminal."""
    table = RichTable(title=title)
    for place, name in enumerate(shown[0]):
        table.add_column(name, justify="left" if place < 2 else "right")
    for line in shown[1:]:
        table.add_row(*line, style="dim" if line[0] == "" else None)
    return table


def to_markdown(shown: Sequence[Sequence[str]]) -> str:
    """Return lines, the first of which is the header, as a Markdown table."""
    rule = ["---"] * 2 + ["---:"] * (len(shown[0]) - 2)
    return "".join("| " + " | ".join(line) + " |\n" for line in [shown[0], rule, *shown[1:]])


def to_latex(shown: Lines, title: str) -> str:
    """Return lines as a LaTeX table, for the package booktabs."""
    escaped = [[_escape(cell) for cell in line] for line in shown]
    head, *body = (" & ".join(line) + r" \\" for line in escaped)
    columns = "ll" + "r" * (len(shown[0]) - 2)
    top = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(title)}}}", rf"\begin{{tabular}}{{{columns}}}"]
    return "\n".join(
        [*top, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    )


def _escape(text: str) -> str:
    for character in "%_&#":
        text = text.replace(character, "\\" + character)
    return text.replace("±", r"$\pm$")


def write_csv(path: Path, table: Table, results: Results) -> None:
    """Write one line per finished run of the table's cells, mIoU in percent."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["table", "dataset", "protocol", "row", "column", "training", "seed", "miou", "paper"])
        for row, column in table.cells(results.dataset):
            training = table.specs[row, column].name
            published = dict(zip(table.columns, table.paper.get(results.dataset, {}).get(row, []), strict=False))
            for seed, value in results.values(training).items():
                known = [table.name, results.dataset, results.protocol, row, column, training, seed, value]
                writer.writerow([*known, published.get(column)])
