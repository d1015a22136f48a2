"""Crash-safe checkpoint files, written while the training continues."""

import io
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Trainer

from datamodules.io.atomic import atomic_write

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written. Earlier ones are intact."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Trainer plugin that writes checkpoints atomically and renames a replaced ``last.ckpt`` to ``previous.ckpt``.

    A checkpoint is copied to memory at once and written by a thread, while the training continues.
    """

    def __init__(self) -> None:
        self._loaded = ""  # name of the checkpoint that the run continues from
        self._writer = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None
        self.error = ""  # why a checkpoint could not be written

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint."""
        self.wait()
        self._loaded = Path(path).name
        return super().load_checkpoint(path, *args, **kwargs)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Copy a checkpoint and start to write it. :attr:`error` tells later if that fails."""
        buffer = io.BytesIO()  # torch's own writer would hide the reason of an OSError
        torch.save(checkpoint, buffer)
        self.wait()  # at most one copy is in memory
        self._written = self._writer.submit(self._write, buffer, Path(path))

    def wait(self) -> None:
        """Wait until all checkpoints are written."""
        if self._written is not None:
            self._written.result()
            self._written = None

    def teardown(self) -> None:
        """See :meth:`wait`."""
        self.wait()

    def _write(self, buffer: io.BytesIO, path: Path) -> None:
        keep = None
        if path.name == LAST and self._loaded != PREVIOUS:  # else last.ckpt was found damaged
            keep = path.with_name(PREVIOUS)
        try:
            atomic_write(path, buffer.getbuffer(), keep=keep)
        except OSError as error:
            self.error = (
                f"No checkpoint could be saved in {path.parent} ({error.strerror}). Earlier checkpoints are intact: "
                "free some space and continue with --ckpt_path=last."
            )
        else:
            if path.name == LAST:
                self._loaded = ""


def finish_writing(trainer: Trainer) -> None:
    """Wait until all checkpoints of a trainer are written. All processes must call this.

    Raises:
        CheckpointError: One could not be written; in all processes.
    """
    plugin = trainer.strategy.checkpoint_io
    if isinstance(plugin, DurableCheckpointIO):
        plugin.wait()
        if error := trainer.strategy.broadcast(plugin.error):
            raise CheckpointError(error)
