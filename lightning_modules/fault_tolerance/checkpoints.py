"""Checkpoints of the whole state between two steps, regularly and when a run is stopped."""

from math import inf
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from lightning_modules.fault_tolerance.durable_io import DurableCheckpointIO
from lightning_modules.fault_tolerance.step_guard import NonFiniteError, StepGuard
from lightning_modules.fault_tolerance.stop_signals import Stopped

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
SETTINGS = "settings"
"""Key of :func:`settings` in a checkpoint."""


class RegularCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` every so many steps, when the run is stopped, and at its end; keeps ``previous.ckpt``.

    At a step with a validation, it saves after that.

    Args:
        every_n_steps: Optimizer steps between two checkpoints.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        self.every_n_steps = every_n_steps
        self._saved_at = 0  # no step, nothing to save
        self._keep = True  # what is replaced
        self._stop = 0  # the signal to stop by
        self._between_steps = False  # and not between batches that are accumulated into one
        self._progress: dict[str, Any] | None = None  # at the end of the last step
        self._restore_progress = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write all checkpoints durably, those of other callbacks too."""
        trainer.strategy.checkpoint_io = DurableCheckpointIO()
        self._folder = Path(trainer.default_root_dir) / "checkpoints"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run continues.

        Raises:
            RuntimeError: Not all processes do so at the same step.
        """
        step = trainer.strategy.broadcast(trainer.global_step)
        if step != trainer.global_step:
            raise RuntimeError(
                f"Process 0 continues at step {step}, process {trainer.global_rank} at {trainer.global_step}: they see "
                f"different files in {self._folder}. Start again when its file system shows the same everywhere."
            )
        self._saved_at = step
        self._keep = Path(trainer.ckpt_path or "").name != PREVIOUS  # or else last.ckpt is not readable

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop here, where the step before has been logged too.

        Raises:
            Stopped: In all processes, after a checkpoint.
        """
        if self._stop:
            raise Stopped(self._stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a step ends here, and no validation follows."""
        self._between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self._between_steps:
            self._progress = trainer.fit_loop.state_dict()
            validates = trainer.enable_validation and (batch_idx + 1) % (trainer.val_check_batch or inf) == 0
            if not validates:
                self._end_step(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if a step ended before."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and self._between_steps:
            self._end_step(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights."""
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the state before a step that has been refused; all processes do, or none."""
        if isinstance(exception, NonFiniteError) and self._progress is not None:
            self._restore_progress = True
            self._save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what a run that continues must have in common with this one."""
        checkpoint[SETTINGS] = settings(trainer, trainer.datamodule)  # type: ignore[attr-defined]
        if self._restore_progress:
            checkpoint["loops"]["fit_loop"] = self._progress

    def _end_step(self, trainer: Trainer) -> None:
        self._stop = next((guard.stop for guard in trainer.callbacks if isinstance(guard, StepGuard)), 0)  # type: ignore[attr-defined]
        if self._stop or trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self._saved_at == trainer.global_step:
            return
        trainer.save_checkpoint(self._folder / LAST, storage_options=self._folder / PREVIOUS if self._keep else None)
        self._saved_at, self._keep = trainer.global_step, True


def settings(trainer: Trainer, datamodule: LightningDataModule | None) -> dict[str, Any]:
    """Return what decides the samples of each step, their number and the learning rate, and how they are shared."""
    return {
        "trainer.max_steps": trainer.max_steps,
        "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches,
        "data.loader.batch_size": getattr(getattr(datamodule, "loader", None), "batch_size", None),
        "seed_everything": getattr(datamodule, "seed", None),
        "processes": trainer.world_size,
    }
