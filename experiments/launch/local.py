"""Starts runs on this machine, and what every launcher offers."""

import subprocess
from typing import Protocol

from experiments.train.run import Run


class Job(Protocol):
    """A run that was started."""

    def poll(self) -> int | None:
        """Return ``None`` while it waits or runs, then its exit status."""

    def stop(self) -> str:
        """React to an interrupt of the command that started it, and return what becomes of the run."""


class Launcher(Protocol):
    """Starts runs.

    Attributes:
        limit: Number of jobs at a time.
    """

    limit: int

    def start(self, run: Run) -> Job:
        """Start or continue a run whose configuration is saved."""


class LocalLauncher:
    """Runs one process at a time on this machine."""

    limit = 1

    def start(self, run: Run) -> "LocalJob":
        """Start a process that writes to the log of the run."""
        with run.log.open("ab") as log:
            return LocalJob(
                subprocess.Popen(run.command(), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            )


class LocalJob:
    """A process on this machine.

    Args:
        process: Of a run.
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
