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
from experiments.launch.local import Job, Launcher, LocalLauncher
from experiments.launch.slurm import SlurmLauncher
from experiments.tables.cell import Cell
from experiments.tables.live_status import LiveStatus
from experiments.tables.paper_figures import draw_kernels, draw_predictions
from experiments.tables.report import open_console, write_table
from experiments.tables.results import Results
from experiments.tables.table import Table
from experiments.train.run import Run

POLL_S = 1.0


def run(options: argparse.Namespace) -> None:
    """Train the unfinished cells of a table, then print and write the table and its pictures.

    Raises:
        InputError: A table, dataset, cell or option is unknown, or a run directory has a different configuration.
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
            console.print(f"{cell.name}: {state}\n  {shlex.join(cell.run.command())}", soft_wrap=True, markup=False)
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
        console.print(f"Failed: {', '.join(cell.name for cell in failed)}. Run the same command to retry.")
        raise SystemExit(1)


def prepare(cells: Sequence[Cell]) -> None:
    """Resolve all cells, then write their configurations.

    Raises:
        InputError: A cell cannot be resolved, in which case nothing is written, or its directory holds a different run.
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
                run = Run(folder / spec.name / f"seed{seed}")
                given = (options.dataset, options.protocol, seed, run, label, table.name)
                cell = Cell(spec, *given, options.devices, options.fit_options, options.wandb)
                cells.setdefault(run.path, cell)  # two cells of Table 5 are one training
    if not cells:
        raise InputError("No cell matches --rows, --columns and --cells together.")
    return list(cells.values())


def _run_all(cells: Sequence[Cell], launcher: Launcher, console: Console) -> list[Cell]:
    """Run all cells and return those that failed."""
    for cell in cells:
        if result := cell.run.result():
            console.print(f"{cell.name}: {result['miou']:.2f} mIoU, finished before")
    waiting = [cell for cell in cells if not cell.run.result()]
    failed: list[Cell] = []
    jobs: dict[Cell, Job] = {}
    status = LiveStatus(len(cells), len(cells) - len(waiting), console)
    with status.progress:
        try:
            while waiting or jobs:
                while waiting and len(jobs) < launcher.limit:
                    cell = waiting.pop(0)
                    try:
                        jobs[cell] = launcher.start(cell.run)
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
    """Print and write the table and its pictures from all finished runs, also those of earlier calls."""
    write_table(table, results, console)
    cells = [(f"{row}\n{column}", table.specs[row, column].name) for row, column in table.cells(results.dataset)]
    first = {label: run for label, name in cells if (run := results.first(name))}
    pictures = {
        f"{table.name}_gallery.png": draw_predictions(first, weak=True),
        "kernels.png": draw_kernels(next(iter(first.values())).datamodule().val_split()),
    }
    for name, picture in pictures.items():
        picture.savefig(results.folder / name)
        console.print(f"wrote {results.folder / name}", soft_wrap=True)
