"""``gatedcrf reproduce TABLE``: one process or job per cell, continued where it stopped, then the table."""

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
from experiments.launch.slurm_script import SETTINGS
from experiments.tables.cell import Cell
from experiments.tables.cell_settings import data_settings
from experiments.tables.command import open_console, write_table
from experiments.tables.figures import save_gallery, save_kernels
from experiments.tables.gpu_hours import SUSTAINED_TFLOPS, gpu_hours
from experiments.tables.protocol import PROTOCOLS
from experiments.tables.results import Results
from experiments.tables.table import Table
from experiments.train.run import load_datamodule

POLL_S = 1.0
OWN = ("--seed_everything", "--ckpt_path", "--trainer.default_root_dir", "--trainer.devices", "--trainer.num_nodes")
"""Options of ``gatedcrf fit`` that tell cells apart, or the launcher what to ask for: they cannot be given for all."""


def run(args: Sequence[str]) -> None:
    """Run the cells of a table that are not finished, then print and write the table and the pictures.

    Args:
        args: Command line without "reproduce".

    Raises:
        InputError: An unknown table, dataset or cell, a missing option of the dataset, or a run directory of another
            configuration.
        SystemExit: With status 1 if a cell failed, 130 if interrupted.
    """
    options = _parse(args)
    console = open_console()
    table = Table.load(options.table)
    folder = Path(options.runs) / (options.dataset + ("" if options.protocol == "paper" else f".{options.protocol}"))
    cells = _select(table, folder, options)
    for cell in cells:
        data_settings(cell)  # refuses what is missing
    if options.dry_run:
        _print_plan(cells, console)
        return
    for cell in cells:
        cell.prepare()
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside as by hand
    try:
        failed = _run_all(cells, _launcher(options), console)
    finally:
        signal.signal(signal.SIGTERM, handler)
    if any(cell.result() for cell in cells):
        _report(table, Results.read(folder), console)
    if failed:
        console.print(f"Failed: {', '.join(cell.name for cell in failed)}. The same command tries them again.")
        raise SystemExit(1)


def _parse(args: Sequence[str]) -> argparse.Namespace:
    epilog = "Options after -- go to `gatedcrf fit` of every cell, for example: -- --data.root=FOLDER"
    parser = argparse.ArgumentParser("gatedcrf reproduce", description=__doc__, epilog=epilog, allow_abbrev=False)
    parser.add_argument("table", help="name of a table, for example table1")
    parser.add_argument("--dataset", default="shapes", help="a file of experiments/datasets (default: shapes)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="paper", help="see protocols.yaml (default: paper)")
    parser.add_argument("--rows", nargs="+", default=["*"], help="names of rows, or patterns")
    parser.add_argument("--columns", nargs="+", default=["*"], help="names of columns, or patterns")
    parser.add_argument(
        "--cells", nargs="+", default=["*"], help="patterns of row/column, for example 'clicks/*' full/pCE"
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs per cell, seeded 0, 1, ... (default: 1)")
    parser.add_argument("--max_steps", type=int, help="shorten or lengthen every run")
    parser.add_argument("--devices", type=int, default=1, help="devices per cell, which share its batches (default: 1)")
    parser.add_argument("--launcher", choices=["local", "slurm"], default="local", help="default: local")
    parser.add_argument("--slurm", type=Path, help=f"what jobs ask for where it differs from {SETTINGS}")
    parser.add_argument("--runs", default="runs", help="where the runs are kept (default: runs)")
    parser.add_argument("--wandb", action="store_true", help="log to W&B, a run per cell in a group per table")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and their estimated cost")
    split = list(args).index("--") if "--" in args else len(args)
    options = parser.parse_args(args[:split])
    for name in ("seeds", "max_steps", "devices"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name} is {value}; give at least 1")
    if options.slurm and options.launcher != "slurm":
        parser.error("--slurm is read with --launcher slurm")
    options.overrides = _join(args[split + 1 :])
    for option in options.overrides:
        if option.partition("=")[0] in OWN:
            parser.error(f"{option}: every cell has its own, which --seeds, --runs and --devices set")
    if options.max_steps is not None:
        options.overrides.append(f"--trainer.max_steps={options.max_steps}")
    return options


def _join(args: Sequence[str]) -> list[str]:
    """Write every option as one argument, "--key=value"."""
    joined: list[str] = []
    for arg in args:
        if arg.startswith("-") or not joined or "=" in joined[-1]:
            joined.append(arg)
        else:
            joined[-1] += f"={arg}"
    return joined


def _select(table: Table, folder: Path, options: argparse.Namespace) -> list[Cell]:
    known = table.cells(options.dataset)
    patterns = [f"{row}/{column}" for row in options.rows for column in options.columns]
    for chosen in (patterns, options.cells):
        for pattern in chosen:
            if not any(fnmatch(f"{row}/{column}", pattern) for row, column in known) and pattern != "*":
                names = ", ".join(f"{row}/{column}" for row, column in known)
                raise InputError(f"{table.name} has no cell {pattern!r} for {options.dataset}; its cells are {names}.")
    chosen_cells: dict[Path, Cell] = {}
    for seed in range(options.seeds):
        for row, column in known:
            label = f"{row}/{column}"
            if any(fnmatch(label, p) for p in patterns) and any(fnmatch(label, p) for p in options.cells):
                spec = table.specs[row, column]
                cell = Cell(
                    spec=spec,
                    dataset=options.dataset,
                    protocol=options.protocol,
                    seed=seed,
                    run=folder / spec.name / f"seed{seed}",
                    label=label,
                    table=table.name,
                    devices=options.devices,
                    options=tuple(options.overrides),
                    wandb=options.wandb,
                )
                chosen_cells.setdefault(cell.run, cell)  # two cells of Table 5 are one training
    if not chosen_cells:
        raise InputError("No cell is both among --rows and --columns and among --cells.")
    return list(chosen_cells.values())


def _print_plan(cells: Sequence[Cell], console: Console) -> None:
    total = 0.0
    for cell in cells:
        hours = gpu_hours(cell)
        state = "finished" if cell.result() else f"{hours:.1f} GPU hours"
        total += 0 if cell.result() else hours
        console.print(f"{cell.name}: {state}, {cell.run}", soft_wrap=True, markup=False)
        console.print(f"  {shlex.join(cell.command())}", soft_wrap=True, markup=False)
    console.print(f"{len(cells)} runs, {total:.1f} GPU hours at {SUSTAINED_TFLOPS:.0f} sustained TFLOP/s (an estimate)")


def _launcher(options: argparse.Namespace) -> Launcher:
    return SlurmLauncher(options.slurm) if options.launcher == "slurm" else LocalLauncher()


def _run_all(cells: Sequence[Cell], launcher: Launcher, console: Console) -> list[Cell]:
    """Run the cells to their ends and return those that failed."""
    failed: list[Cell] = []
    waiting: list[Cell] = []
    for cell in cells:
        if result := cell.result():
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
                    except ValueError as error:  # SLURM refuses this job, say; others may be welcome
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
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C shall not cut off what the first one asks
            for cell, job in jobs.items():
                console.print(f"{cell.name}: {job.stop()}.", markup=False)
            raise SystemExit(130) from None
    return failed


def _report(table: Table, results: Results, console: Console) -> None:
    """Print and write everything that has been measured for this table, by this call or before."""
    write_table(table, results, console)
    names = {f"{row} {column}": table.specs[row, column].name for row, column in table.cells(results.dataset)}
    first = {
        label: results.runs[name][min(results.runs[name])] for label, name in names.items() if name in results.runs
    }
    if not first:
        return
    save_gallery(results.folder / f"{table.name}_gallery.png", first)
    save_kernels(results.folder / "kernels.png", load_datamodule(next(iter(first.values()))).val_split())
    for name in (f"{table.name}_gallery.png", "kernels.png"):
        console.print(f"wrote {results.folder / name}", soft_wrap=True)
