"""No process of a run waits for one that has died.

This concerns the processes that Lightning's own launcher starts. srun and torchrun end all processes of a run together.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from pytorch_lightning import Trainer

MAIN = "GATEDCRF_MAIN_PROCESS"
"""Environment variable with the id of the process whose launcher starts the others."""
INTERVAL_S = 1.0


@contextmanager
def end_with_main_process() -> Iterator[None]:
    """Context in which this process ends within seconds of the main process that started it.

    It would otherwise wait for the main process in a collective operation, by default for 30 minutes.
    """
    main, done = os.environ.get(MAIN), Event()
    if main is None or os.environ.get("LOCAL_RANK", "0") == "0" or "TORCHELASTIC_RUN_ID" in os.environ:
        os.environ[MAIN] = str(os.getpid())
        yield
        return
    Thread(target=_watch, args=(int(main), done), daemon=True).start()
    try:
        yield
    except RuntimeError:  # such as a connection that was closed an instant before the main process ended
        time.sleep(INTERVAL_S)
        _end_if_orphaned(int(main))
        raise
    finally:
        done.set()


def _watch(main: int, done: Event) -> None:
    while not done.wait(INTERVAL_S):
        _end_if_orphaned(main)


def _end_if_orphaned(main: int) -> None:
    if os.getppid() != main:
        sys.stderr.write(
            f"gatedcrf: error: the main process {main} of this run has died, so process {os.environ['LOCAL_RANK']} "
            "ends. Run the same command to continue.\n"
        )
        sys.stderr.flush()
        os._exit(1)  # a normal exit could wait for the other processes


@contextmanager
def name_dead_processes(trainer: Trainer) -> Iterator[None]:
    """Context that adds the processes that have died to an exception of the main process.

    The exception itself may only report a closed connection.
    """
    try:
        yield
    except Exception as error:
        others = getattr(trainer.strategy.launcher, "procs", [])
        if others:
            time.sleep(INTERVAL_S)  # a connection is closed an instant before its process ends
        for rank, process in enumerate(others, start=1):
            if status := process.poll():
                error.add_note(f"Process {rank} of this run has died with status {status}. -9 is SIGKILL.")
        raise
