"""Training speed and number of labels."""

from time import perf_counter
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import Profiler

from datamodules.sample import IGNORE_INDEX


class DataWait(Profiler):
    """Lightning profiler that measures the seconds that the host has waited for training batches, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0
        self._since = 0.0

    def start(self, action_name: str) -> None:
        """Note when a batch is requested."""
        if action_name.endswith("train_dataloader_next"):
            self._since = perf_counter()

    def stop(self, action_name: str) -> None:
        """Add the time since the request."""
        if action_name.endswith("train_dataloader_next"):
            self.waited += perf_counter() - self._since


class Throughput(Callback):
    """Logs images per second over all devices, and the GPU's peak memory in GiB.

    If the trainer's profiler is :class:`DataWait`, the share of time spent waiting for data is logged too. All values
    are of the steps since the last logged one, except validation and the step after it. Only the host's clock is read,
    without waiting for the GPU, which is a few steps behind at most.
    """

    def __init__(self) -> None:
        self._ended: float | None = None  # time of the last step's end
        self._waited = 0.0  # until then
        self._images, self._seconds, self._waiting = 0, 0.0, 0.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the validation out."""
        self._ended = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step, and log if Lightning logs this one."""
        now, profiler = perf_counter(), trainer.profiler  # type: ignore[attr-defined]
        waited = profiler.waited if isinstance(profiler, DataWait) else 0.0
        if self._ended is not None:
            self._images += len(batch["image"]) * trainer.world_size
            self._seconds += now - self._ended
            self._waiting += waited - self._waited
        self._ended, self._waited = now, waited
        if not _is_logged(trainer) or not self._images:
            return
        pl_module.log("throughput/images_per_s", self._images / self._seconds)
        if isinstance(profiler, DataWait):
            pl_module.log("throughput/data_wait", self._waiting / self._seconds)
        if pl_module.device.type == "cuda":
            pl_module.log("throughput/gpu_memory_gib", torch.cuda.max_memory_allocated(pl_module.device) / 2**30)
        self._images, self._seconds, self._waiting = 0, 0.0, 0.0


class LabelCount(Callback):
    """Logs the number of labeled pixels in the batch of all devices, and their share of its pixels."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count on the device, in logged steps only."""
        if _is_logged(trainer):
            labeled = (batch["target"] != IGNORE_INDEX).float()
            pl_module.log("train/labeled_pixels", labeled.sum(), sync_dist=True, reduce_fx="sum")
            pl_module.log("train/labeled_share", labeled.mean(), sync_dist=True)


def _is_logged(trainer: Trainer) -> bool:
    """Return whether Lightning logs the step that has just ended."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return trainer.global_step % every == 0
