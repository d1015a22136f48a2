"""Signals that end a run between two steps. They are noted on arrival and handled by all processes together."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

REQUEUE = signal.SIGUSR1
"""SLURM's warning before the time limit."""
SIGNALS = (signal.SIGTERM, REQUEUE, signal.SIGINT, signal.SIGHUP)
"""Termination, SLURM's warning, Ctrl-C, and the end of the terminal."""

_received = 0  # signals belong to the whole process


class Stopped(Exception):  # noqa: N818, it is no error
    """The run was stopped between two steps, after a checkpoint.

    Args:
        signum: The signal that stopped it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def received() -> int:
    """Return the signal that this process has received, or 0. Ctrl-C and SIGHUP count as SIGTERM."""
    return _received


def install() -> None:
    """Set handlers that only note the signals."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        return
    for signum in SIGNALS:
        second = signum == signal.SIGINT and _received  # a second Ctrl-C ends the run at once
        ignored = signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN  # by nohup
        if not second and not ignored:
            signal.signal(signum, _note)


@contextmanager
def deferred() -> Iterator[None]:
    """Context in which signals are only noted; the previous handlers return after it."""
    global _received
    _received = 0
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    install()
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def _note(signum: int, frame: FrameType | None) -> None:
    global _received
    if signum == signal.SIGINT:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _received = max(_received, REQUEUE if signum == REQUEUE else signal.SIGTERM)
