"""Exit statuses of interrupted runs. SLURM requeues on them."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from datamodules.io.errors import InputError
from lightning_modules.fault_tolerance import CheckpointError, NonFiniteError, Stopped
from losses.errors import ArgumentError


@contextmanager
def exit_status() -> Iterator[None]:
    """Turn the exceptions that stop a run into exit statuses.

    Raises:
        SystemExit: Status 143 after SIGTERM or Ctrl-C, and 138 after SIGUSR1; a checkpoint is saved. Status 1 with the
            reason if a step was not finite or a checkpoint could not be saved.
        InputError: A loss refuses an argument.
    """
    try:
        yield
    except SIGTERMException:  # Lightning's, before or after the steps; its own status would be 0
        sys.exit(128 + signal.SIGTERM)
    except Stopped as stopped:
        # Lightning kills the main process if another one seems to fail
        sys.exit(128 + stopped.signum if _is_main_process() else 0)
    except (NonFiniteError, CheckpointError) as error:
        sys.exit(f"gatedcrf: error: {error}" if _is_main_process() else 1)
    except ArgumentError as error:
        raise InputError(str(error)) from error


def _is_main_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0
