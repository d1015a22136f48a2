"""One process at a time trains in a run directory."""

import fcntl
from pathlib import Path
from typing import IO

from datamodules.io.errors import InputError

LOCK = "lock"


def lock(run: Path) -> IO[str]:
    """Keep others from training in a run directory while the returned file is open and this process lives.

    Raises:
        InputError: Another process trains there: one that a killed ``gatedcrf reproduce`` has left behind, say.
    """
    run.mkdir(parents=True, exist_ok=True)
    file = (run / LOCK).open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which the loader processes would keep
    except (BlockingIOError, PermissionError):
        raise InputError(
            f"Another process trains in {run}. Wait until it has ended, or end it, and try again."
        ) from None
    except OSError:  # a file system that knows no locks
        pass
    return file
