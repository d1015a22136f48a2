"""How a training that was stopped ends: with a status that tells why, and by which a SLURM job is requeued."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_modules.fault_tolerance import CheckpointError, NonFiniteError, Stopped


@contextmanager
def telling_status() -> Iterator[None]:
    """Turn what stops a run between two steps into the end of this process.

    Raises:
        SystemExit: With a checkpoint saved, status 143 if terminated or interrupted, and 138 if warned by SIGUSR1. With
            status 1 and the reason if a step was not finite, or if no checkpoint could be saved.
    """
    try:
        yield
    except SIGTERMException:  # Lightning's, whose status is 0: the signal came before or after the steps
        sys.exit(128 + signal.SIGTERM)
    except Stopped as stopped:
        if not _speaks_for_all():
            sys.exit(0)  # Lightning kills the first process where another seems to fail
        sys.exit(128 + stopped.signum)
    except (NonFiniteError, CheckpointError) as error:
        sys.exit(f"gatedcrf: error: {error}" if _speaks_for_all() else 1)


def _speaks_for_all() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0
