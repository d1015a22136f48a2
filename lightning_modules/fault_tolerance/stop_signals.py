"""Signals that end a run between two steps. They are noted on arrival and handled by all processes together."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Termination, SLURM's warning before the time limit, and Ctrl-C."""

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
    """Return the signal that this process has received, or 0. Ctrl-C counts as SIGTERM."""
    return _received


def install() -> None:
    """Set handlers that only note the signals."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        return
    for signum in SIGNALS:
        if signum != signal.SIGINT or not _received:  # a second Ctrl-C ends the run at once
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
    _received = max(_received, signal.SIGTERM if signum == signal.SIGINT else signum)
