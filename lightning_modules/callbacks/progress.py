"""The progress of a run."""

import sys
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

from lightning_modules.callbacks.throughput import is_logged

LINE_INTERVAL_S = 10.0
Metrics = dict[str, int | str | float | dict[str, float]]


class Progress(RichProgressBar):
    """A bar on a terminal, and elsewhere a line every ten seconds.

    Metrics are read in logged steps only, since reading one waits for the GPU.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=4)  # per second
        self._metrics: Metrics = {}
        self._line_time = 0.0  # seconds
        self._began = (0, 0.0)  # step and time, seconds

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Disable the bar if the output is not a terminal."""
        super().setup(trainer, pl_module, stage)
        if not sys.stdout.isatty():
            self.disable()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run begins or continues."""
        super().on_train_start(trainer, pl_module)
        self._began = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the metrics, and move the bar or print a line."""
        if is_logged(trainer):
            self._metrics = super().get_metrics(trainer, pl_module)
            if not self.is_enabled and trainer.is_global_zero:
                self._print_line(trainer)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the metrics of an evaluation."""
        self._metrics = super().get_metrics(trainer, pl_module)
        super().on_validation_end(trainer, pl_module)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """Return the metrics of the last logged step or evaluation."""
        return self._metrics

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"  # a run is one epoch

    def _print_line(self, trainer: Trainer) -> None:
        now, (step, began) = time.monotonic(), self._began
        if trainer.global_step == step or now - self._line_time < LINE_INTERVAL_S:
            return
        self._line_time = now
        seconds = (now - began) / (trainer.global_step - step) * (trainer.max_steps - trainer.global_step)
        values = "".join(f", {name} {value:.4g}" for name, value in self._metrics.items() if isinstance(value, float))
        print(f"step {trainer.global_step:,} of {trainer.max_steps:,}{values}, {seconds / 60:.0f} min left", flush=True)
