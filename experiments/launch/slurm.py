"""``--launcher slurm``: one batch job per run.

Job arrays are not used, so each run is requeued, canceled, resubmitted and logged separately. A later call submits only
runs that are neither finished nor in the queue.
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

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.launch.slurm_script import SETTINGS, Settings, batch_script, job_name
from experiments.train.run import Run

SCRIPT = "job.sbatch"
QUERY_INTERVAL_S = 10.0  # one query serves all jobs, to spare a shared controller


class SlurmLauncher:
    """Submits runs, or attaches to their pending or running jobs.

    The queue is the only record. Each run folder has its own job name, so no job is lost or submitted twice when this
    process ends. SLURM runs one job of a name at a time (``--dependency=singleton``).

    Args:
        file: Settings that override slurm.yaml.

    Raises:
        InputError: Invalid settings, SLURM is not installed, or its controller does not answer.
    """

    def __init__(self, file: Path | None = None) -> None:
        for program in ("sbatch", "squeue"):
            if shutil.which(program) is None:
                raise InputError(f"{program} is not on the PATH. Run on a login node, or use --launcher local.")
        self.settings = Settings.load(file or SETTINGS)
        self.limit = self.settings.jobs
        self._queue = _query_queue()
        self._queried = time.monotonic()

    def start(self, run: Run) -> "SlurmJob":
        """Submit the job of a run unless it is in the queue.

        Raises:
            InputError: SLURM refuses the job. The message gives its reason.
        """
        name = job_name(run.path)
        if name not in self._queue:
            script = run.path.resolve() / SCRIPT
            atomic_write(script, batch_script(run, self.settings))
            _call("sbatch", str(script))
            self._queue.add(name)
        return SlurmJob(self, name, run.path)

    def is_queued(self, name: str) -> bool:
        """Return whether a job was pending or running at the controller's last answer."""
        if time.monotonic() - self._queried >= QUERY_INTERVAL_S:
            self._queried = time.monotonic()
            with suppress(InputError):  # a busy or restarting controller does not affect jobs
                self._queue = _query_queue()
        return name in self._queue


@dataclass(frozen=True)
class SlurmJob:
    """The job of one run."""

    launcher: SlurmLauncher
    name: str
    run: Path

    def poll(self) -> int | None:
        """Return ``None`` while the job is pending or running, then 0 if the run has its result and 1 otherwise."""
        if self.launcher.is_queued(self.name):
            return None
        return 0 if RESULT in os.listdir(self.run) else 1  # NFS may report a new file as missing for a minute

    def stop(self) -> str:
        """Leave the job in the queue."""
        return f"its SLURM job continues, and the same command attaches to it (scancel --name={self.name} ends it)"


def _query_queue() -> set[str]:
    """Return the names of this user's pending and running jobs."""
    return set(_call("squeue", f"--user={getpass.getuser()}", "--noheader", "--format=%j").splitlines())


def _call(*command: str) -> str:
    """Return the output of a SLURM command, or raise an InputError with SLURM's message."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{shlex.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
