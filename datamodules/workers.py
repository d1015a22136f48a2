"""Loader processes."""

import signal

import cv2

# terminals and schedulers send these to all processes of a run, which then ends after a step
IGNORED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


def init_worker(worker: int) -> None:
    """Use one thread, and leave the signals that stop a run to its main process."""
    cv2.setNumThreads(0)  # 0 is the calling thread alone; 1 would wait for threads that a fork does not copy
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)
