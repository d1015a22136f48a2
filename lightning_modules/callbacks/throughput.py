"""Training speed and number of labels."""

from time import perf_counter
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import Profiler

from datamodules.sample import IGNORE_INDEX
from losses.global_batch import sum_over_processes


class DataWait(Profiler):
    """Lightning profiler that only adds up the seconds that the host has waited for training batches."""

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

    With the profiler :class:`DataWait`, the fraction of time spent waiting for data is logged too. All values cover the
    steps since the last log, excluding validation and the first step after it. Only the host's clock is read, without
    waiting for the GPU, which is at most a few steps behind.
    """

    def __init__(self) -> None:
        self._step_end: float | None = None  # of the previous step
        self._waited = 0.0  # until then
        self._images, self._seconds, self._waiting = 0, 0.0, 0.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude validation from the measured time."""
        self._step_end = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, _: Any, batch: Any, *__: Any) -> None:
        """Count a step, and log if Lightning logs this one."""
        now, profiler = perf_counter(), trainer.profiler  # type: ignore[attr-defined]
        waited = profiler.waited if isinstance(profiler, DataWait) else 0.0
        if self._step_end is not None:
            self._images += len(batch["image"]) * trainer.world_size
            self._seconds += now - self._step_end
            self._waiting += waited - self._waited
        self._step_end, self._waited = now, waited
        if not is_logged(trainer) or not self._images:
            return
        pl_module.log("throughput/images_per_s", self._images / self._seconds)
        if isinstance(profiler, DataWait):
            pl_module.log("throughput/data_wait", self._waiting / self._seconds)
        if pl_module.device.type == "cuda":
            pl_module.log("throughput/gpu_memory_gib", torch.cuda.max_memory_allocated(pl_module.device) / 2**30)
        self._images, self._seconds, self._waiting = 0, 0.0, 0.0


class LabelCount(Callback):
    """Logs the number and the fraction of labeled pixels in the global batch."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, _: Any, batch: Any, *__: Any) -> None:
        """Count on the device, in logged steps only."""
        if is_logged(trainer):
            labeled = sum_over_processes((batch["target"] != IGNORE_INDEX).sum()).float()
            pl_module.log("train/labeled_pixels", labeled)
            pl_module.log("train/labeled_share", labeled / (batch["target"].numel() * trainer.world_size))


def is_logged(trainer: Trainer) -> bool:
    """Return whether Lightning logs the step that has just ended."""
    return trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined, no-any-return]
