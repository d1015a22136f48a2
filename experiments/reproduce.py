"""``gatedcrf reproduce TABLE``: one process per cell, continued where it stopped, then the table."""

import argparse
import signal
import subprocess
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments import RESULT
from experiments import table as tables
from experiments.cell import LOG, Cell, read_result
from experiments.figures import save_gallery, save_kernels
from experiments.run import load_config, load_datamodule

POLL_S = 1.0


def run(args: Sequence[str]) -> None:
    """Run the cells of a table that are not finished, then print and write the table and the pictures.

    Args:
        args: Command line without "reproduce".

    Raises:
        ValueError: An unknown table, dataset or cell, or a run directory of another configuration.
        SystemExit: With status 1 if a cell failed, 130 if interrupted.
    """
    options = _parse(args)
    console = Console()
    table = tables.Table.load(options.table)
    folder = Path(options.runs) / table.name / options.dataset
    cells = _select(table, folder, options)
    for cell in cells:
        cell.check_record()
    failed = []
    for number, cell in enumerate(cells, start=1):
        label = f"[{number}/{len(cells)}] {cell.name}"
        if (result := cell.result()) is not None:
            console.print(f"{label}: {result:.2f} mIoU, finished before", highlight=False)
            continue
        if _train(cell, label, console) is None:
            failed.append(cell)
    _report(table, folder, options.dataset, console)
    if failed:
        console.print(f"Failed: {', '.join(cell.name for cell in failed)}. The same command tries them again.")
        raise SystemExit(1)


def _parse(args: Sequence[str]) -> argparse.Namespace:
    epilog = "Options after -- go to `gatedcrf fit` of every cell, for example: -- --data.root=FOLDER"
    parser = argparse.ArgumentParser("gatedcrf reproduce", description=__doc__, epilog=epilog, allow_abbrev=False)
    parser.add_argument("table", help="name of a table, for example table1")
    parser.add_argument("--dataset", default="shapes", help="a file of experiments/datasets (default: shapes)")
    parser.add_argument(
        "--cells", nargs="+", default=["*"], help="patterns of row/column, for example 'clicks/*' full/pCE"
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs per cell, seeded 0, 1, ... (default: 1)")
    parser.add_argument("--runs", default="runs", help="where the runs are kept (default: runs)")
    split = list(args).index("--") if "--" in args else len(args)
    options = parser.parse_args(args[:split])
    options.overrides = list(args[split + 1 :])
    return options


def _select(table: tables.Table, folder: Path, options: argparse.Namespace) -> list[Cell]:
    names = [f"{row}/{column}" for row, column in table.cells()]
    for pattern in options.cells:
        if not any(fnmatch(name, pattern) for name in names):
            raise ValueError(f"{table.name} has no cell {pattern!r}; its cells are {', '.join(names)}.")
    return [
        Cell(
            row=row,
            column=column,
            seed=seed,
            run=folder / f"{row}.{column}" / f"seed{seed}",
            configs=("base.yaml", f"datasets/{options.dataset}.yaml", table.rows[row], table.columns[column]),
            overrides=tuple(options.overrides),
        )
        for seed in range(options.seeds)
        for row, column in table.cells()
        if any(fnmatch(f"{row}/{column}", pattern) for pattern in options.cells)
    ]


def _train(cell: Cell, label: str, console: Console) -> float | None:
    """Run one cell to its end and return its mIoU, or show the end of its log and return ``None``."""
    started = time.monotonic()
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside as by hand
    process = cell.start()
    try:
        _watch(process, cell, label, console)
    except KeyboardInterrupt:
        console.print(f"{label}: interrupted at step {cell.step()}. The same command continues.")
        raise SystemExit(130) from None
    finally:
        process.terminate()  # nothing, if it has ended; otherwise it saves a checkpoint first
        process.wait()
        signal.signal(signal.SIGTERM, handler)
    result, minutes = cell.result(), (time.monotonic() - started) / 60
    if result is None:
        console.print(f"{label}: failed with status {process.returncode}; the end of {cell.run / LOG}:")
        console.print(cell.log_tail(), markup=False, highlight=False)
    else:
        console.print(f"{label}: {result:.2f} mIoU in {minutes:.1f} min", highlight=False)
    return result


def _watch(process: subprocess.Popen[bytes], cell: Cell, label: str, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=None)
        while process.poll() is None:
            time.sleep(POLL_S)
            if (cell.run / "config.yaml").is_file():
                total = load_config(cell.run)["trainer"]["max_steps"]
                progress.update(task, completed=cell.step(), total=total)


def _report(table: tables.Table, folder: Path, dataset: str, console: Console) -> None:
    """Print and write everything that has been measured for this table, by this call or before."""
    runs = {
        (row, column): {int(path.parent.name.removeprefix("seed")): path.parent for path in sorted(found)}
        for row, column in table.cells()
        if (found := list(folder.glob(f"{row}.{column}/seed*/{RESULT}")))
    }
    if not runs:
        return
    values = {cell: {seed: read_result(run) for seed, run in seeds.items()} for cell, seeds in runs.items()}
    lines = table.lines(dataset, values)
    console.print(tables.to_rich(lines))
    (folder / f"{table.name}.md").write_text(tables.to_markdown(lines))
    tables.write_csv(folder / f"{table.name}.csv", dataset, values)
    first = {f"{row} {column}": seeds[min(seeds)] for (row, column), seeds in runs.items()}
    save_gallery(folder / "gallery.png", first)
    save_kernels(folder / "kernels.png", load_datamodule(next(iter(first.values()))).val_split())
    for name in (f"{table.name}.md", f"{table.name}.csv", "gallery.png", "kernels.png"):
        console.print(f"wrote {folder / name}", highlight=False, soft_wrap=True)
