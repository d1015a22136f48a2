"""Loader processes and their options."""

import signal
from dataclasses import dataclass
from typing import Any

import cv2
import torch

# terminals and schedulers send these to all processes of a run, which then ends after a step
IGNORED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


def init_worker(worker: int) -> None:
    """Use one thread, and leave the signals that stop a run to its main process."""
    cv2.setNumThreads(0)  # 0 is the calling thread alone; 1 would wait for threads that a fork does not copy
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)


@dataclass(frozen=True)
class LoaderOptions:
    """Batch size, loader processes and cache.

    Args:
        batch_size: Samples per batch, over all devices together.
        num_workers: Loader processes per device. Affects speed only.
        image_cache: Folder for the decoded training images, 3 bytes per pixel, shared by all processes of a machine.
            It is filled before the first step, and again when a file changes. ``None`` decodes images in every epoch.
            Affects speed only.
    """

    batch_size: int = 16
    num_workers: int = 4
    image_cache: str | None = None

    def processes(self, device: torch.device) -> dict[str, Any]:
        """Return the arguments of a ``DataLoader`` that concern its processes. ``device`` is that of the training."""
        return {
            "num_workers": self.num_workers,
            "worker_init_fn": init_worker,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": device.type == "cuda",
        }
