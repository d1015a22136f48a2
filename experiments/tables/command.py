"""``gatedcrf table RUNS``: the paper's tables from finished runs."""

import argparse
import sys

from rich.console import Console

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.tables import report
from experiments.tables.plot import save_plot
from experiments.tables.results import Results
from experiments.tables.table import Table

WIDTH = 150  # columns of a table that is printed to a file


def run(options: argparse.Namespace) -> None:
    """Print and write every table that finished runs contribute to.

    Args:
        options: See :mod:`experiments.tables.parser`.

    Raises:
        InputError: A folder without finished runs, or an unknown table.
    """
    pattern = f"*/seed*/{RESULT}"
    found = sorted({path.parents[2] for depth in (pattern, f"*/{pattern}") for path in options.runs.glob(depth)})
    if not found:
        raise InputError(f"{options.runs} holds no finished run; see: gatedcrf reproduce --help")
    console = open_console()
    tables = [Table.load(name) for name in options.tables]
    for folder in found:
        results = Results.read(folder)
        for table in tables:
            if results.covers(table):
                write_table(table, results, console)


def open_console() -> Console:
    """Return a console that does not squeeze tables when it prints to a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def write_table(table: Table, results: Results, console: Console) -> None:
    """Print a table and write it as Markdown, LaTeX, CSV and PNG beside its runs."""
    shown = report.lines(table, results)
    names = {table.specs[cell].name for cell in table.cells(results.dataset)}
    title = f"{table.name}: {results.conditions(names)}"
    console.print(report.to_rich(shown, title))
    stem = results.folder / table.name
    atomic_write(stem.with_suffix(".md"), f"{title}\n\n{report.to_markdown(shown)}")
    atomic_write(stem.with_suffix(".tex"), report.to_latex(shown, title))
    report.write_csv(stem.with_suffix(".csv"), table, results)
    save_plot(stem.with_suffix(".png"), table, results, title)
    for suffix in ("md", "tex", "csv", "png"):
        console.print(f"wrote {stem}.{suffix}", soft_wrap=True)
