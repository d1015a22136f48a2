"""Exit statuses of interrupted runs. SLURM requeues on them."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_modules.fault_tolerance import CheckpointError, NonFiniteError, Stopped


@contextmanager
def exit_status() -> Iterator[None]:
    """Turn the exceptions that stop a run between two steps into an exit status.

    Raises:
        SystemExit: Status 143 after SIGTERM or Ctrl-C and 138 after SIGUSR1, both with a checkpoint saved. Status 1 and
            the reason if a step was not finite, or if no checkpoint could be saved.
    """
    try:
        yield
    except SIGTERMException:  # Lightning's, whose status would be 0: the signal came before or after the steps
        sys.exit(128 + signal.SIGTERM)
    except Stopped as stopped:
        if not _is_main_process():
            sys.exit(0)  # Lightning kills the main process if another one seems to fail
        sys.exit(128 + stopped.signum)
    except (NonFiniteError, CheckpointError) as error:
        sys.exit(f"gatedcrf: error: {error}" if _is_main_process() else 1)


def _is_main_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0
