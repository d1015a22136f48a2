"""``--launcher slurm``: one array job for all runs of a call, one task per run.

Each task is requeued, canceled, resubmitted and logged separately. A later call submits only runs that are neither
finished nor in the queue.
"""

import getpass
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.launch.local import Job
from experiments.launch.slurm_script import SETTINGS, Settings, batch_script
from experiments.train.lock import LockedError
from experiments.train.run import Run

SCRIPT = "job.sbatch"
QUERY_INTERVAL_S = 10.0  # one query serves all jobs, to spare a shared controller


class SlurmLauncher:
    """Submits runs, or attaches to their pending or running tasks.

    A task is known by the random name of its array and its index, which are also the last line of RUN/job.sbatch. That
    line is written before the array is submitted, so no task is lost if this process ends at any time. The runs are
    locked until the array is in the queue, so two calls do not submit the same run.

    Args:
        file: Settings that override slurm.yaml.

    Raises:
        InputError: Invalid settings, SLURM is not installed, or its controller does not answer.
    """

    limit = sys.maxsize  # SLURM limits the number of running tasks

    def __init__(self, file: Path | None = None) -> None:
        for program in ("sbatch", "squeue"):
            if shutil.which(program) is None:
                raise InputError(f"{program} is not on the PATH. Run on a login node, or use --launcher local.")
        self.settings = Settings.load(file or SETTINGS)
        self._query()

    def start(self, runs: Sequence[Run]) -> list[Job | InputError | None]:
        """Submit the runs that are not in the queue. SLURM may refuse them."""
        refused = None
        try:
            if new := [run for run in runs if _task(run) not in self._queue]:
                self._submit(new)
        except InputError as error:
            refused = error
        return [self._job(run) or (None if run.is_locked() else refused) for run in runs]

    def _job(self, run: Run) -> "SlurmJob | None":
        task = _task(run)
        return SlurmJob(self, run, task, self._queue[task]) if task in self._queue else None

    def _submit(self, runs: Sequence[Run]) -> None:
        """Submit the runs that no other process trains or has submitted."""
        with ExitStack() as locks:
            free = []
            for run in runs:
                with suppress(LockedError):
                    locks.enter_context(run.lock(patience_s=0))
                    free.append(run)
            self._query()  # again, because another call may have held the locks until now
            new = [run for run in free if _task(run) not in self._queue]
            if not new:
                return
            name = f"gatedcrf.{secrets.token_hex(4)}"
            script = batch_script(name, new, self.settings)
            for index, run in enumerate(new):
                atomic_write(run.path / SCRIPT, f"{script}# {name}/{index}\n")
            try:
                answer = _call("sbatch", "--parsable", str(new[0].path.resolve() / SCRIPT))
            except InputError as error:
                if "timed out" not in str(error):  # else the job may still appear in the queue
                    for run in new:
                        (run.path / SCRIPT).unlink()  # the run has not started, so its configuration may change
                raise
            number = answer.strip().partition(";")[0]
            self._queue |= {f"{name}/{index}": f"{number}_{index}" for index in range(len(new))}

    def is_queued(self, task: str) -> bool:
        """Return whether a task was pending or running at the controller's last answer."""
        if time.monotonic() - self._queried >= QUERY_INTERVAL_S:
            with suppress(InputError):  # a busy or restarting controller does not affect jobs
                self._query()
        return task in self._queue

    def _query(self) -> None:
        """Read the ids of this user's pending and running tasks by their names."""
        self._queried = time.monotonic()
        lines = _call("squeue", f"--user={getpass.getuser()}", "--array", "--noheader", "--format=%j/%K %F_%K")
        self._queue = dict(line.rsplit(" ", 1) for line in lines.splitlines())


@dataclass(frozen=True)
class SlurmJob:
    """The task of one run, with its name and its id."""

    launcher: SlurmLauncher
    run: Run
    task: str
    number: str

    def poll(self) -> int | None:
        """Return ``None`` while the task is pending or running, then 0 if the run has its result and 1 otherwise."""
        if self.launcher.is_queued(self.task):
            return None
        return 0 if RESULT in os.listdir(self.run.path) else 1  # NFS may report a new file as missing for a minute

    def stop(self) -> None:
        """Leave the task in the queue."""

    def outcome(self) -> str:
        """Return that the task continues."""
        return f"its SLURM job continues, and the same command attaches to it (scancel {self.number} ends it)"


def _task(run: Run) -> str:
    """Return the name of the last task that was submitted for a run, or "" if there is none."""
    script = run.path / SCRIPT
    return script.read_text().splitlines()[-1].removeprefix("# ") if script.is_file() else ""


def _call(*command: str) -> str:
    """Return the output of a SLURM command, or raise an InputError with SLURM's message."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{shlex.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
