"""Where a run continues, and what may not have changed since."""

import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from datamodules.io.errors import InputError
from lightning_modules.fault_tolerance.checkpoints import LAST, PREVIOUS, SETTINGS, settings


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
    """Compare a run with the one that left a checkpoint; another number of processes is only warned of.

    Raises:
        InputError: There is no such file.
        InputError: It would not continue that run, but mix two; or the checkpoint is damaged.
    """
    if path.is_file() and not is_whole(path):
        raise InputError(f"{path} is truncated or damaged. Continue from another checkpoint in {path.parent}.")
    before: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(SETTINGS, {})
    now = settings(trainer, datamodule)
    changed = [name for name in before if name in now and before[name] != now[name]]
    if "processes" in changed:
        changed.remove("processes")
        rank_zero_warn(
            f"{path} is from {before['processes']} processes and continues on {now['processes']}: the same samples at "
            "each step, but sums in another order, and BatchNorm without synchronization over other shares."
        )
    if changed:
        options = " ".join(f"--{name}={before[name]}" for name in changed)
        given = ", ".join(f"{name} {now[name]}" for name in changed)
        raise InputError(
            f"{path} belongs to a run with {options}, not {given}, which decides the samples and the learning rate of "
            "every step. Continue with those options, or start a new run in another --trainer.default_root_dir."
        )


@rank_zero_only
def _say(message: str) -> None:
    sys.stderr.write(f"gatedcrf: {message}\n")
