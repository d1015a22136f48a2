"""Where a run continues, and what may not have changed since."""

import sys
from pathlib import Path
from zipfile import ZipFile

import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from datamodules.io.errors import InputError
from lightning_modules.fault_tolerance.checkpoints import LAST, PREVIOUS


def newest_checkpoint(run: Path) -> Path | None:
    """Return the newest regular checkpoint of a run that is whole, or ``None`` if none has been saved.

    Args:
        run: The run directory.

    Raises:
        InputError: There are some, but none is whole.
    """
    saved = [path for name in (LAST, PREVIOUS) if (path := run / "checkpoints" / name).is_file()]
    for path in saved:
        if is_whole(path):
            return path
        _say(f"{path} is truncated or damaged; trying the one before")
    if saved:
        raise InputError(
            f"No checkpoint in {run / 'checkpoints'} is readable. Remove {' and '.join(path.name for path in saved)} "
            "there to start from the beginning, or name another directory with --trainer.default_root_dir."
        )
    return None


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint is as it was written: the checksums of what it holds, and that it can be read."""
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged header fails in many ways
        return False
    return True


def check_settings(path: Path, trainer: Trainer, datamodule: LightningDataModule) -> None:
    """Refuse a damaged checkpoint.

    Raises:
        InputError: The checkpoint is damaged.
    """
    if path.is_file() and not is_whole(path):
        raise InputError(f"{path} is truncated or damaged. Continue from another checkpoint in {path.parent}.")


@rank_zero_only
def _say(message: str) -> None:
    sys.stderr.write(f"gatedcrf: {message}\n")
