"""Where the processes of a table run."""

import subprocess
from typing import Protocol

from experiments.tables.cell import Cell


class Job(Protocol):
    """One cell that was started."""

    def poll(self) -> int | None:
        """Return ``None`` while it waits or runs, else its exit status."""

    def stop(self) -> str:
        """Do what is right when the command that started it is interrupted, and say what becomes of the cell."""


class Launcher(Protocol):
    """Starts cells.

    Attributes:
        limit: Number of jobs at a time.
    """

    limit: int

    def start(self, cell: Cell) -> Job:
        """Start or continue a prepared cell."""


class LocalLauncher:
    """Runs cells on this machine, one after the other."""

    limit = 1

    def start(self, cell: Cell) -> "LocalJob":
        """Start a process that writes to the log of the cell."""
        with cell.run.log.open("ab") as log:
            return LocalJob(
                subprocess.Popen(cell.command(), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            )


class LocalJob:
    """A process on this machine.

    Args:
        process: Of a cell.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def poll(self) -> int | None:
        """Return ``None`` while it runs, else its exit status."""
        return self.process.poll()

    def stop(self) -> str:
        """End the process after its current step, when it has saved a checkpoint."""
        self.process.terminate()
        self.process.wait()
        return "interrupted. The same command continues"
