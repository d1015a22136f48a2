"""``gatedcrf reproduce TABLE``: train the cells of a table, then print and draw it."""

import argparse
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console

from datamodules.io.errors import InputError
from experiments.launch.local import Launcher, LocalLauncher, visible_gpus
from experiments.launch.slurm import SlurmLauncher
from experiments.launch.slurm_script import SETTINGS, Settings
from experiments.tables.cell import Cell
from experiments.tables.paper_figures import draw_kernels, draw_predictions
from experiments.tables.report import open_console, write_table
from experiments.tables.results import Results
from experiments.tables.schedule import Schedule
from experiments.tables.table import Table
from experiments.train.lock import LockedError, lock
from experiments.train.resume import check_settings
from experiments.train.run import Run

REPORT_PATIENCE_S = 600.0  # two calls that wait for the same last cell write the same files


def run(options: argparse.Namespace) -> None:
    """Train the unfinished cells of a table, then print and write the table and its pictures.

    Raises:
        InputError: A table, dataset, cell or option is unknown, or a run directory has a different configuration.
        SystemExit: Status 1 if a cell failed, 130 if interrupted.
    """
    console = open_console()
    table = Table.load(options.table)
    folder = options.runs / (options.dataset + ("" if options.protocol == "paper" else f".{options.protocol}"))
    if options.launcher == "slurm" and Settings.load(options.slurm or SETTINGS).uses_gpus:
        options.fit_options.insert(0, "--preset=gpu")  # this machine may have no GPU; the user's options come after it
    cells = _select(table, folder, options)
    prepare(cells)
    if options.dry_run:
        for cell in cells:
            state = "finished" if cell.run.result() else f"{cell.run.steps - cell.run.step():,} steps to train"
            console.print(f"{cell.name}: {state}\n  {shlex.join(cell.run.command())}", soft_wrap=True, markup=False)
        return
    with _signals_as_interrupts():
        failed = Schedule(cells, _launcher(options), console).run()
    if any(cell.run.result() for cell in cells):
        with lock(folder, REPORT_PATIENCE_S):
            _report(table, Results.read(folder), console)
    if failed:
        console.print(f"Failed: {', '.join(cell.name for cell in failed)}. Run the same command to retry.")
        raise SystemExit(1)


def prepare(cells: Sequence[Cell]) -> None:
    """Resolve all cells, then write their configurations.

    A run that another process trains keeps its own, which may have other runtime options.

    Raises:
        InputError: A cell cannot be resolved, in which case nothing is written, or its directory holds a different run.
    """
    configs = [cell.resolve() for cell in cells]
    for cell, config in zip(cells, configs, strict=True):
        if cell.run.holds(config):
            continue
        try:
            with cell.run.lock(patience_s=0 if cell.run.has_config else None):
                cell.run.prepare(config)
        except LockedError:
            if not cell.run.has_config:
                raise
            check_settings(cell.run.path, cell.run.config, config)


def _launcher(options: argparse.Namespace) -> Launcher:
    if options.launcher == "slurm":
        return SlurmLauncher(options.slurm)
    return LocalLauncher(options.parallel, options.devices, visible_gpus())


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Context in which SIGTERM, and SIGHUP of a closed terminal, end the command like Ctrl-C."""
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}
    for signum, handler in handlers.items():
        if handler != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(signum, signal.default_int_handler)
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


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
