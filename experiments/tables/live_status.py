"""Progress bars of running cells."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn, TimeRemainingColumn

from experiments.tables.cell import Cell


class LiveStatus:
    """Shows a bar per running cell and one for all, and prints a line when a cell starts or ends.

    Bars are shown within ``with status.progress``, and on a terminal only.

    Args:
        total: Number of cells.
        finished: Number of cells that were finished before.
        console: Where to print.
    """

    def __init__(self, total: int, finished: int, console: Console) -> None:
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.console = console
        self.total = total
        self.progress = Progress(*columns, console=console, transient=True)
        self.all = self.progress.add_task("cells", total=total, completed=finished)
        self.started: dict[Cell, tuple[TaskID, float]] = {}

    def start(self, cell: Cell) -> None:
        """Add the bar of a cell."""
        number = int(self.progress.tasks[0].completed) + len(self.started) + 1
        self.console.print(f"[{number}/{self.total}] {cell.name}: started, log in {cell.run.log}", markup=False)
        task = self.progress.add_task(cell.name, total=cell.run.steps, completed=cell.run.step())
        self.started[cell] = (task, time.monotonic())

    def update(self, cell: Cell) -> None:
        """Move the bar of a cell to its last logged step."""
        self.progress.update(self.started[cell][0], completed=cell.run.step())

    def remove(self, cell: Cell) -> float:
        """Remove the bar of a cell and return for how long it was shown, seconds."""
        task, began = self.started.pop(cell)
        self.progress.remove_task(task)
        return time.monotonic() - began

    def end(self, cell: Cell, code: int) -> bool:
        """Remove the bar of a cell, print its result or the end of its log, and return whether it has a result."""
        minutes = self.remove(cell) / 60
        self.progress.advance(self.all)
        result = cell.run.result()
        if result is not None:
            self.console.print(f"{cell.name}: {result['miou']:.2f} mIoU in {minutes:.1f} min")
            return True
        self.console.print(f"{cell.name}: failed with status {code}; the end of {cell.run.log}:")
        self.console.print(cell.run.log_tail(), markup=False)
        return False

    def finish_elsewhere(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Print the result of a cell that another call has trained."""
        self.progress.advance(self.all)
        self.console.print(f"{cell.name}: {result['miou']:.2f} mIoU, trained by another call")
