"""Files of checkpoints, of which a kill at any time and a full disk leave sound ones."""

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; those before it are as they were."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, to the disk, and then in its place."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Path | None = None
    ) -> None:
        """Write a checkpoint that is whole or not there.

        Args:
            checkpoint: What Lightning collects.
            path: The file.
            storage_options: Where to put the file that is replaced, in the same folder; ``None`` is nowhere.

        Raises:
            CheckpointError: The disk is full, say.
        """
        path = Path(path)
        part = path.with_suffix(".part")
        buffer = io.BytesIO()  # torch's own writer would hide what the disk complains of
        torch.save(checkpoint, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            if storage_options is not None and path.is_file():
                path.replace(storage_options)
            part.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise CheckpointError(
                f"No checkpoint could be saved in {path.parent} ({error.strerror}). Those saved before are whole: make "
                "room there and continue with --ckpt_path=last."
            ) from error


def _sync_folder(folder: Path) -> None:
    """Bring the names of its files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
