"""When a run is saved."""

import signal
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch.optim import Optimizer

from datamodules.io.errors import InputError
from lightning_modules.fault_tolerance import stop_signals
from lightning_modules.fault_tolerance.checkpoint_io import LAST, finish_writing
from lightning_modules.fault_tolerance.step_flags import Flags, flags_of
from lightning_modules.fault_tolerance.step_guard import StepGuard
from lightning_modules.fault_tolerance.stop_signals import Stopped


class RegularCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` at regular times, when the run is stopped, and at its end.

    It needs a :class:`StepGuard` before it.

    Args:
        every_n_minutes: Minutes between two checkpoints; 0 saves after each step. A validation after that step comes
            first.
    """

    def __init__(self, every_n_minutes: float = 10.0) -> None:
        self.every_n_minutes = every_n_minutes
        self._saved_at = 0  # step of the last checkpoint
        self._saved_time = 0.0  # seconds
        self._flags = Flags()  # of this step
        self._stop = 0  # signal that ends the run
        self._between_steps = False  # false between batches that are accumulated into one step

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that all processes continue at the same step, before Lightning waits for all of them.

        Raises:
            InputError: They do not; in all processes.
        """
        if trainer.world_size == 1:
            return
        step = pl_module.loaded_step
        steps = [step] * trainer.world_size
        dist.all_gather_object(steps, step)
        if len(set(steps)) > 1:
            raise InputError(
                f"The processes continue at different steps: {', '.join(map(str, steps))}. Start again when "
                f"{trainer.default_root_dir} has the same files on all machines."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count the minutes."""
        self._saved_at, self._saved_time, self._flags, self._stop = trainer.global_step, monotonic(), Flags(), 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop all processes after the checkpoint, once the previous step has been logged.

        Raises:
            Stopped: A signal has arrived in any process.
        """
        if self._stop:
            finish_writing(trainer)
            raise Stopped(self._stop)
        due = monotonic() - self._saved_time >= 60 * self.every_n_minutes
        failed = bool(getattr(trainer.strategy.checkpoint_io, "error", ""))
        flags = flags_of(pl_module)
        flags.own = flags.own._replace(save=due and trainer.is_global_zero, save_failed=failed)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Read the flags of all processes.

        Raises:
            CheckpointError: A checkpoint could not be written; in all processes.
        """
        self._flags = flags_of(pl_module).read()
        if self._flags.save_failed:
            finish_writing(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a step ends here and no validation follows."""
        self._between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        validates = trainer.enable_validation and (batch_idx + 1) % (trainer.val_check_batch or inf) == 0
        if self._between_steps and not validates:
            self._end_step(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if a step ended before the validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and self._between_steps:
            self._end_step(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights."""
        self._save(trainer)
        finish_writing(trainer)

    def _end_step(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size == 1:
            self._stop = stop_signals.received()  # may have arrived after the flags were exchanged
        elif self._flags.terminate or self._flags.requeue:
            self._stop = signal.SIGTERM if self._flags.terminate else stop_signals.REQUEUE
        if self._stop or self._flags.save:
            for guard in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(guard, StepGuard):
                    guard.check_now(trainer, pl_module)
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self._saved_at != trainer.global_step:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / LAST)
            self._saved_at, self._saved_time = trainer.global_step, monotonic()
