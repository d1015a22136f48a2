"""``gatedcrf table RUNS``: measured and published values as text, Markdown, LaTeX, CSV and a plot."""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table as RichTable

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.tables.notes import notes
from experiments.tables.plot import save_plot
from experiments.tables.results import Results
from experiments.tables.table import Table, full_supervision

WIDTH = 150  # columns of a table that is printed to a file

Lines = list[list[str]]
"""A header and lines of cells. The first cell is empty in lines that belong to the line above."""


def run(options: argparse.Namespace) -> None:
    """Print and write every table that finished runs contribute to.

    Raises:
        InputError: A folder without finished runs, or an unknown table.
    """
    pattern = f"*/seed*/{RESULT}"
    found = sorted({path.parents[2] for depth in (pattern, f"*/{pattern}") for path in options.runs.glob(depth)})
    if not found:
        raise InputError(f"{options.runs} contains no finished run; see: gatedcrf reproduce --help")
    console = open_console()
    tables = [Table.load(name) for name in options.tables]
    for folder in found:
        results = Results.read(folder)
        for table in tables:
            if results.covers(table):
                write_table(table, results, console)


def open_console() -> Console:
    """Return a console that keeps tables wide when it prints to a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def write_table(table: Table, results: Results, console: Console) -> None:
    """Print a table with its notes, and write it as Markdown, LaTeX, CSV and PNG to the folder of its runs."""
    shown, below = lines(table, results), notes(table, results)
    names = {table.specs[cell].name for cell in table.cells(results.dataset)}
    title = f"{table.name}: {results.conditions(names)}"
    console.print(to_rich(shown, title), *below, sep="\n")
    stem = results.folder / table.name
    atomic_write(stem.with_suffix(".md"), "\n\n".join([title, to_markdown(shown).rstrip(), *below]) + "\n")
    atomic_write(stem.with_suffix(".tex"), to_latex(shown, " ".join([f"{title}.", *below]) if below else title))
    write_csv(stem.with_suffix(".csv"), table, results)
    save_plot(stem.with_suffix(".png"), table, results, title)
    for suffix in ("md", "tex", "csv", "png"):
        console.print(f"wrote {stem}.{suffix}", soft_wrap=True)


def lines(table: Table, results: Results) -> Lines:
    """Return the lines of each row, measured, published and their difference, then one line per other method.

    Values are mIoU in percent, mean and sample standard deviation over seeds. W/F of Table 5 divides the best weakly
    supervised value of a row by that of full supervision with pCE, in percent.
    """
    dataset = results.dataset
    full, _ = full_supervision(dataset)
    compared = [dataset] if dataset in table.paper else list(table.paper)
    shown: Lines = [["", "mIoU, percent", *table.columns, "W/F"]]
    for row in dict.fromkeys(row for row, _ in table.cells(dataset)):
        specs = [table.specs[row, column] for column in table.columns]
        weak = [spec.weak for spec in specs]
        seeds = [results.values(spec.name) for spec in specs]
        ours = _append_ratio([_mean(values) for values in seeds], weak, _mean(results.values(full)))
        shown.append([row, dataset, *map(_mean_and_deviation, seeds), _number(ours[-1])])
        for name in compared:
            if row in table.paper[name]:
                paper = _append_ratio(table.paper[name][row], weak, full_supervision(name)[1])
                shown.append(["", f"paper, {name}", *map(_number, paper)])
                pairs = zip(ours, paper, strict=True) if name == dataset else ()
                difference = ["" if a is None or b is None else f"{a - b:+.2f}" for a, b in pairs]
                if any(difference):
                    shown.append(["", "difference", *difference])
    for method, others in table.others.get(dataset, {}).items():
        values = [others.get(column) for column in table.columns]
        ratio = _append_ratio([others.get("Weak")], [True], others.get("Full"))[-1]
        shown.append([method, "published", *map(_number, [*values, ratio])])
        if found := results.values(str(others.get("ours"))):
            ratio = _append_ratio([_mean(found)], [True], _mean(results.values(full)))[-1]
            shown.append(["", dataset, _mean_and_deviation(found), *[""] * (len(table.columns) - 1), _number(ratio)])
    return shown


def _append_ratio(values: Sequence[float | None], weak: Sequence[bool], full: float | None) -> list[float | None]:
    """Append W/F to the values of a row. ``weak`` marks the weakly supervised ones, ``full`` is F."""
    known = [value for value, is_weak in zip(values, weak, strict=True) if value is not None and is_weak]
    return [*values, 100 * max(known) / full if known and full else None]


def _mean(seeds: Mapping[int, float]) -> float | None:
    return mean(seeds.values()) if seeds else None


def _mean_and_deviation(seeds: Mapping[int, float]) -> str:
    return _number(_mean(seeds)) + (f" ± {stdev(seeds.values()):.2f}" if len(seeds) > 1 else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def to_rich(shown: Lines, title: str) -> RichTable:
    """Return lines for the terminal."""
    table = RichTable(title=title)
    for place, name in enumerate(shown[0]):
        table.add_column(name, justify="left" if place < 2 else "right")
    for line in shown[1:]:
        table.add_row(*line, style="dim" if line[0] == "" else None)
    return table


def to_markdown(shown: Sequence[Sequence[str]]) -> str:
    """Return lines, header first, as a Markdown table."""
    rule = ["---"] * 2 + ["---:"] * (len(shown[0]) - 2)
    return "".join("| " + " | ".join(line) + " |\n" for line in [shown[0], rule, *shown[1:]])


def to_latex(shown: Lines, title: str) -> str:
    """Return lines as a LaTeX table for the package booktabs."""
    head, *body = (" & ".join(map(_escape, line)) + r" \\" for line in shown)
    columns = "ll" + "r" * (len(shown[0]) - 2)
    top = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(title)}}}", rf"\begin{{tabular}}{{{columns}}}"]
    bottom = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join([*top, r"\toprule", head, r"\midrule", *body, *bottom])


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
