"""``gatedcrf reproduce TABLE``: train the cells of a table, then print and draw it."""

import argparse
import shlex
import signal
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console

from datamodules.io.errors import InputError
from experiments.launch.live_status import LiveStatus
from experiments.launch.local import Job, Launcher, LocalLauncher
from experiments.launch.slurm import SlurmLauncher
from experiments.tables.cell import Cell
from experiments.tables.command import open_console, write_table
from experiments.tables.paper_figures import draw_kernels, draw_predictions
from experiments.tables.results import Results
from experiments.tables.table import Table
from experiments.train.run import Run

POLL_S = 1.0


def run(options: argparse.Namespace) -> None:
    """Train the cells of a table that are not finished, then print and write the table and its pictures.

    Args:
        options: See :mod:`experiments.tables.parser`.

    Raises:
        InputError: An unknown table, dataset, cell or option, or a run directory with another configuration.
        SystemExit: Status 1 if a cell failed, 130 if interrupted.
    """
    console = open_console()
    table = Table.load(options.table)
    folder = options.runs / (options.dataset + ("" if options.protocol == "paper" else f".{options.protocol}"))
    cells = _select(table, folder, options)
    prepare(cells)
    if options.dry_run:
        for cell in cells:
            state = "finished" if cell.run.result() else f"{cell.run.steps - cell.run.step():,} steps to train"
            console.print(f"{cell.name}: {state}\n  {shlex.join(cell.command())}", soft_wrap=True, markup=False)
        return
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends the command like Ctrl-C
    try:
        launcher = SlurmLauncher(options.slurm) if options.launcher == "slurm" else LocalLauncher()
        failed = _run_all(cells, launcher, console)
    finally:
        signal.signal(signal.SIGTERM, handler)
    if any(cell.run.result() for cell in cells):
        _report(table, Results.read(folder), console)
    if failed:
        console.print(f"Failed: {', '.join(cell.name for cell in failed)}. The same command tries them again.")
        raise SystemExit(1)


def prepare(cells: Sequence[Cell]) -> None:
    """Resolve all cells, then write their configurations.

    Raises:
        InputError: A cell cannot be resolved, then nothing is written; or its directory holds another run.
    """
    configs = [cell.resolve() for cell in cells]
    for cell, config in zip(cells, configs, strict=True):
        if not cell.run.holds(config):
            with cell.run.lock():
                cell.run.prepare(config)


def _select(table: Table, folder: Path, options: argparse.Namespace) -> list[Cell]:
    known = table.cells(options.dataset)
    patterns = [f"{row}/{column}" for row in options.rows for column in options.columns]
    for pattern in (*patterns, *options.cells):
        if not any(fnmatch(f"{row}/{column}", pattern) for row, column in known) and pattern != "*":
            names = ", ".join(f"{row}/{column}" for row, column in known)
            raise InputError(f"{table.name} has no cell {pattern!r} for {options.dataset}; its cells are {names}.")
    cells: dict[Path, Cell] = {}
    for seed in range(options.seeds):
        for row, column in known:
            label, spec = f"{row}/{column}", table.specs[row, column]
            if any(fnmatch(label, p) for p in patterns) and any(fnmatch(label, p) for p in options.cells):
                path = folder / spec.name / f"seed{seed}"
                cell = Cell(
                    spec,
                    dataset=options.dataset,
                    protocol=options.protocol,
                    seed=seed,
                    run=Run(path),
                    label=label,
                    table=table.name,
                    devices=options.devices,
                    options=options.fit_options,
                    wandb=options.wandb,
                )
                cells.setdefault(path, cell)  # two cells of Table 5 are one training
    if not cells:
        raise InputError("No cell is both among --rows and --columns and among --cells.")
    return list(cells.values())


def _run_all(cells: Sequence[Cell], launcher: Launcher, console: Console) -> list[Cell]:
    """Run the cells to their ends and return those that failed."""
    failed: list[Cell] = []
    waiting: list[Cell] = []
    for cell in cells:
        if result := cell.run.result():
            console.print(f"{cell.name}: {result['miou']:.2f} mIoU, finished before")
        else:
            waiting.append(cell)
    jobs: dict[Cell, Job] = {}
    with LiveStatus(len(cells), len(cells) - len(waiting), console) as status:
        try:
            while waiting or jobs:
                while waiting and len(jobs) < launcher.limit:
                    cell = waiting.pop(0)
                    try:
                        jobs[cell] = launcher.start(cell)
                        status.start(cell)
                    except InputError as error:  # SLURM refuses this job; it may accept others
                        console.print(f"{cell.name}: {error}", markup=False)
                        failed.append(cell)
                time.sleep(POLL_S)
                for cell, job in list(jobs.items()):
                    if (code := job.poll()) is None:
                        status.update(cell)
                    else:
                        del jobs[cell]
                        failed += [] if status.end(cell, code) else [cell]
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean-up
            for cell, job in jobs.items():
                console.print(f"{cell.name}: {job.stop()}.", markup=False)
            raise SystemExit(130) from None
    return failed


def _report(table: Table, results: Results, console: Console) -> None:
    """Print and write everything that has been measured for this table, by this call or before."""
    write_table(table, results, console)
    names = {f"{row}\n{column}": table.specs[row, column].name for row, column in table.cells(results.dataset)}
    first = {label: run for label, name in names.items() if (run := results.first(name)) is not None}
    if not first:
        return
    draw_predictions(first, weak=True).savefig(results.folder / f"{table.name}_gallery.png")
    draw_kernels(next(iter(first.values())).datamodule().val_split()).savefig(results.folder / "kernels.png")
    for name in (f"{table.name}_gallery.png", "kernels.png"):
        console.print(f"wrote {results.folder / name}", soft_wrap=True)
