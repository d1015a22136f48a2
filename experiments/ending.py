"""How a training that was stopped ends: with a status that tells why, and under SLURM back in the queue."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities import rank_zero_only

from lightning_modules.durable_io import CheckpointError
from lightning_modules.step_guard import NonFiniteError
from lightning_modules.stop_signals import Stopped


@contextmanager
def telling_status() -> Iterator[None]:
    """Turn what stops a run between two steps into the end of this process.

    Raises:
        SystemExit: With a checkpoint saved, status 143 if terminated or interrupted, and 138 if warned by SIGUSR1,
            under SLURM after the job has been requeued. With status 1 and the reason if a step was not finite, or if
            no checkpoint could be saved.
    """
    try:
        yield
    except Stopped as stopped:
        if not _speaks_for_all():
            sys.exit(0)  # Lightning kills the first process where another seems to fail
        if stopped.signum == signal.SIGUSR1:
            requeue()
        sys.exit(128 + stopped.signum)
    except (NonFiniteError, CheckpointError) as error:
        sys.exit(f"gatedcrf: error: {error}" if _speaks_for_all() else 1)


def requeue() -> None:
    """Put the SLURM job of this process, if it is one, back into the queue."""
    if job := os.environ.get("SLURM_JOB_ID"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM ends the job at once; loggers have some seconds to finish
        subprocess.run(["scontrol", "requeue", job], check=False)


def _speaks_for_all() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0
