"""Crash-safe checkpoints and the random numbers of a step."""

import io
import random
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from datamodules.io.atomic import atomic_write
from lightning_modules.fault_tolerance.step_guard import NonFiniteError, StepGuard
from lightning_modules.fault_tolerance.stop_signals import Stopped

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written. Earlier ones are intact."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Trainer plugin that writes checkpoints atomically and renames a replaced ``last.ckpt`` to ``previous.ckpt``."""

    _loaded = ""  # name of the checkpoint that the run continues from

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint."""
        self._loaded = Path(path).name
        return super().load_checkpoint(path, *args, **kwargs)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointError: The file cannot be written, for example because the disk is full.
        """
        path, keep = Path(path), None
        if path.name == LAST and self._loaded != PREVIOUS:  # else last.ckpt was found damaged
            keep = path.with_name(PREVIOUS)
        buffer = io.BytesIO()  # torch's own writer would hide the reason of an OSError
        torch.save(checkpoint, buffer)
        try:
            atomic_write(path, buffer.getbuffer(), keep=keep)
        except OSError as error:
            raise CheckpointError(
                f"No checkpoint could be saved in {path.parent} ({error.strerror}). Earlier checkpoints are intact: "
                "free some space and continue with --ckpt_path=last."
            ) from error
        if path.name == LAST:
            self._loaded = ""


class RegularCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` at regular steps, when the run is stopped, and at its end.

    Args:
        every_n_steps: Optimizer steps between two checkpoints. A validation at such a step comes first.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        self.every_n_steps = every_n_steps
        self._saved_at = 0  # step of the last checkpoint
        self._stop = 0  # signal that ends the run
        self._between_steps = False  # false between batches that are accumulated into one step
        self._progress: dict[str, Any] | None = None  # Lightning's counters at the end of the last step
        self._restore_progress = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that all processes continue at the same step.

        Raises:
            RuntimeError: They do not.
        """
        step = trainer.strategy.broadcast(trainer.global_step)
        if step != trainer.global_step:
            raise RuntimeError(
                f"Process 0 continues at step {step}, process {trainer.global_rank} at step {trainer.global_step}. "
                f"Start again when {trainer.default_root_dir} has the same files on all machines."
            )
        self._saved_at = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop all processes after the checkpoint, once the previous step has been logged.

        Raises:
            Stopped: A signal has arrived in any process.
        """
        if self._stop:
            raise Stopped(self._stop)

    def on_train_batch_end(self, trainer: Trainer, _: LightningModule, __: Any, batch: Any, batch_idx: int) -> None:
        """Save if a step ends here and no validation follows."""
        self._between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self._between_steps:
            self._progress = trainer.fit_loop.state_dict()
            if not (trainer.enable_validation and (batch_idx + 1) % (trainer.val_check_batch or inf) == 0):
                self._end_step(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if a step ended before the validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and self._between_steps:
            self._end_step(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights."""
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """After a non-finite loss or gradient, save the state from before that step."""
        if isinstance(exception, NonFiniteError) and self._progress is not None:
            self._restore_progress = True
            self._save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """After a refused step, save the counters of the step before."""
        if self._restore_progress:
            checkpoint["loops"]["fit_loop"] = self._progress

    def _end_step(self, trainer: Trainer) -> None:
        self._stop = next((guard.stop for guard in trainer.callbacks if isinstance(guard, StepGuard)), 0)  # type: ignore[attr-defined]
        if self._stop or trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self._saved_at != trainer.global_step:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / LAST)
            self._saved_at = trainer.global_step


class StepSeed(Callback):
    """Seeds the global random generators at each step from the run's seed, the batch and the process.

    Random numbers, as in dropout, do not depend on earlier steps, so resuming needs no generator state.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the seed of the run."""
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed Python, NumPy and torch on all devices."""
        seed = int(np.random.SeedSequence([self._seed, batch_idx, trainer.global_rank]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
