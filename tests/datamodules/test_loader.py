"""Loader processes use one thread and do not end before their run."""

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from datamodules.loader import init_worker

TASKS = Path("/proc/self/task")
LARGE = np.zeros((2000, 2000, 3), dtype=np.uint8)


def new_threads() -> int:
    """Return the number of threads that OpenCV starts to resize a large image."""
    before = len(list(TASKS.iterdir()))
    cv2.resize(LARGE, (700, 700), interpolation=cv2.INTER_AREA)
    return len(list(TASKS.iterdir())) - before


class Probes(Dataset[int]):
    """Item 0 is the number of new threads. The other items survive a signal to their process."""

    signals = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __len__(self) -> int:
        return 1 + len(self.signals)

    def __getitem__(self, index: int) -> int:
        if index == 0:
            return new_threads()
        os.kill(os.getpid(), self.signals[index - 1])
        return index


@pytest.mark.parametrize("used", [False, True])
def test_loader_process_starts_no_thread_and_ignores_signals(used: bool) -> None:
    """As on a machine with many CPUs, also if OpenCV's threads run in the main process when it forks."""
    if not TASKS.exists():
        pytest.skip("needs /proc")
    default = cv2.getNumThreads()
    cv2.setNumThreads(0)
    cv2.setNumThreads(4)  # threads start on first use
    try:
        assert not used or new_threads() > 0  # threads of an earlier pool may still be counted
        options = {"num_workers": 1, "multiprocessing_context": "fork", "timeout": 30}
        items = list(DataLoader(Probes(), batch_size=None, worker_init_fn=init_worker, **options))
    finally:
        cv2.setNumThreads(0)
        cv2.setNumThreads(default)
    assert items == [0, 1, 2, 3, 4]
