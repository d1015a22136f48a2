"""The interface of launchers, and the launcher on this machine."""

import subprocess
from typing import Protocol

from experiments.train.run import Run


class Job(Protocol):
    """A run that was started."""

    def poll(self) -> int | None:
        """Return ``None`` while the run waits or trains, then its exit status."""

    def stop(self) -> str:
        """Terminate the run, or leave it in the queue, and return a message that states which was done."""


class Launcher(Protocol):
    """Starts runs, at most ``limit`` at a time."""

    limit: int

    def start(self, run: Run) -> Job:
        """Start or continue a run whose configuration is saved."""


class LocalLauncher:
    """Runs one process at a time on this machine."""

    limit = 1

    def start(self, run: Run) -> "LocalJob":
        """Start a process that writes to the log of the run."""
        with run.log.open("ab") as log:
            return LocalJob(run.command(), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


class LocalJob(subprocess.Popen[bytes]):
    """A process on this machine."""

    def stop(self) -> str:
        """End the process. It finishes its step and saves a checkpoint first."""
        self.terminate()
        self.wait()
        return "interrupted. The same command continues"
