"""``--launcher slurm``: one batch job per cell.

A job of its own rather than an element of an array: a cell is requeued, canceled, submitted again and logged by itself,
and a later call submits just the cells that are neither finished nor in the queue.
"""

import getpass
import os
import shlex
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.launch.slurm_script import SETTINGS, Settings, batch_script, job_name
from experiments.tables.cell import Cell

SCRIPT = "job.sbatch"
ASK_EVERY_S = 10.0  # one question for all jobs: controllers serve hundreds of users


class SlurmLauncher:
    """Submits cells, or attaches to their jobs where they wait or run already.

    The queue itself is the record: each run directory has its own job name, so that nothing is lost or submitted twice
    if this process ends at any point, and SLURM never runs two jobs of one name at a time (``singleton``).

    Args:
        file: Settings that differ from slurm.yaml.

    Raises:
        InputError: Bad settings, no SLURM here, or a controller that does not answer.
    """

    def __init__(self, file: Path | None = None) -> None:
        for program in ("sbatch", "squeue"):
            if shutil.which(program) is None:
                raise InputError(f"{program} is not on the PATH. Run on a login node, or use --launcher local.")
        self.settings = Settings.load(file or SETTINGS)
        self.limit = self.settings.jobs
        self._jobs = _queue()
        self._asked = time.monotonic()

    def start(self, cell: Cell) -> "SlurmJob":
        """Submit the job of a cell, unless it waits or runs.

        Raises:
            InputError: The job is refused, with SLURM's reason.
        """
        name = job_name(cell)
        if name not in self._jobs:
            script = cell.run.path.resolve() / SCRIPT
            script.write_text(batch_script(cell, self.settings))
            _call("sbatch", str(script))
            self._jobs.add(name)
        return SlurmJob(self, name, cell.run.path)

    def holds(self, name: str) -> bool:
        """Return whether a job waits or runs, as of the last time that the controller answered."""
        if time.monotonic() - self._asked >= ASK_EVERY_S:
            self._asked = time.monotonic()
            with suppress(ValueError):  # a controller that restarts or is busy: the jobs go on
                self._jobs = _queue()
        return name in self._jobs


@dataclass(frozen=True)
class SlurmJob:
    """The job of one cell."""

    launcher: SlurmLauncher
    name: str
    run: Path

    def poll(self) -> int | None:
        """Return ``None`` while the job waits or runs, then 0 if the run has its result and 1 otherwise."""
        if self.launcher.holds(self.name):
            return None
        return 0 if RESULT in os.listdir(self.run) else 1  # a listing: NFS may remember for a minute that there is none

    def stop(self) -> str:
        """Leave the job to SLURM; a later call attaches to it."""
        return f"its SLURM job goes on, and the same command attaches to it (scancel --name={self.name} ends it)"


def _queue() -> set[str]:
    """Return the names of this user's waiting and running jobs."""
    return set(_call("squeue", f"--user={getpass.getuser()}", "--noheader", "--format=%j").splitlines())


def _call(*command: str) -> str:
    """Return what a command of SLURM prints.

    Raises:
        InputError: It failed; the message is SLURM's.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{shlex.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
