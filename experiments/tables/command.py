"""``gatedcrf table RUNS``: the paper's tables from finished runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from datamodules.io.errors import InputError
from experiments import EXPERIMENTS, RESULT
from experiments.tables import report
from experiments.tables.plot import save_plot
from experiments.tables.results import Results
from experiments.tables.table import Table

WIDE = 150  # columns


def run(args: Sequence[str]) -> None:
    """Print and write every table that finished runs contribute to.

    Args:
        args: Command line without "table".

    Raises:
        InputError: A folder without finished runs, or an unknown table.
    """
    parser = argparse.ArgumentParser("gatedcrf table", description=__doc__, allow_abbrev=False)
    parser.add_argument("runs", help="folder of runs, or that of one dataset in it")
    known = sorted(path.stem for path in EXPERIMENTS.glob("table*.yaml"))
    parser.add_argument("--tables", nargs="+", default=known, help=f"names of tables (default: {' '.join(known)})")
    options = parser.parse_args(args)
    folder = Path(options.runs)
    found = sorted(
        {path.parents[2] for path in [*folder.glob(f"*/seed*/{RESULT}"), *folder.glob(f"*/*/seed*/{RESULT}")]}
    )
    if not found:
        raise InputError(f"{folder} holds no finished run; see: gatedcrf reproduce --help")
    console = open_console()
    tables = [Table.load(name) for name in options.tables]
    for dataset in found:
        results = Results.read(dataset)
        for table in tables:
            if results.covers(table):
                write_table(table, results, console)


def open_console() -> Console:
    """Return a console that does not squeeze tables where they go to a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def write_table(table: Table, results: Results, console: Console) -> None:
    """Print a table and write it as Markdown, LaTeX, CSV and PNG beside its runs."""
    shown = report.lines(table, results)
    names = {table.specs[cell].name for cell in table.cells(results.dataset)}
    title = f"{table.name}: {results.conditions(names)}"
    console.print(report.to_rich(shown, title))
    stem = results.folder / table.name
    stem.with_suffix(".md").write_text(f"{title}\n\n{report.to_markdown(shown)}")
    stem.with_suffix(".tex").write_text(report.to_latex(shown, title))
    report.write_csv(stem.with_suffix(".csv"), table, results)
    save_plot(stem.with_suffix(".png"), table, results, title)
    for suffix in ("md", "tex", "csv", "png"):
        console.print(f"wrote {stem}.{suffix}", soft_wrap=True)
