"""The lock of a run directory."""

import fcntl
import os
import sys
import time
from pathlib import Path
from typing import IO

from datamodules.io.errors import InputError

PATIENCE_S = 2.0  # is_locked() in another process holds the lock for an instant
REQUEUED_PATIENCE_S = 300.0  # a file server may keep the lock of a dead node for minutes
INTERVAL_S = 0.5


class LockedError(InputError):
    """Another process trains in a run directory."""


def lock(folder: Path, patience_s: float | None = None) -> IO[str]:
    """Lock a run directory against other processes while the returned file is open.

    Args:
        folder: The directory. It may not exist yet.
        patience_s: Seconds to wait for another process; ``None`` for 2, or for 300 in a requeued SLURM job.

    Raises:
        LockedError: Another process trains here, for example one left behind by a killed ``gatedcrf reproduce``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a")
    requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    if patience_s is None:
        patience_s = REQUEUED_PATIENCE_S if requeued else PATIENCE_S
    deadline = time.monotonic() + patience_s
    announce = requeued
    while not _acquire(file):
        if time.monotonic() >= deadline:
            file.close()
            raise LockedError(f"Another process trains in {folder}. Wait for it or end it, then try again.")
        if announce:
            sys.stderr.write(f"gatedcrf: {folder} is locked; waiting up to {patience_s:.0f} s\n")
            announce = False
        time.sleep(INTERVAL_S)
    return file


def is_locked(folder: Path) -> bool:
    """Return whether another process trains in a directory. Not for a process that holds the lock: it would lose it."""
    if not (folder / "lock").is_file():
        return False
    with (folder / "lock").open("a") as file:
        return not _acquire(file)


def _acquire(file: IO[str]) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not inherited by loader processes
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        pass
    return True
