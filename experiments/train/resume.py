"""Checks before a run continues: intact checkpoints and unchanged settings."""

import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import torch
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from datamodules.io.errors import InputError
from experiments.train.configuration import concerns
from lightning_modules.fault_tolerance.checkpoints import LAST, PREVIOUS


def newest_checkpoint(folder: Path) -> Path | None:
    """Return last.ckpt, or previous.ckpt if that one is damaged, or ``None`` if there is neither.

    Raises:
        InputError: All of them are damaged.
    """
    saved = [path for name in (LAST, PREVIOUS) if (path := folder / name).is_file()]
    for path in saved:
        if is_whole(path):
            return path
        rank_zero_only(sys.stderr.write)(f"gatedcrf: {path} is truncated or damaged; trying the one before\n")
    if saved:
        raise InputError(
            f"No checkpoint in {folder} is readable. Remove {' and '.join(path.name for path in saved)} there to start "
            "from the beginning, or name another directory with --trainer.default_root_dir."
        )
    return None


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint is readable and matches its checksums."""
    if not path.exists():
        return True  # Lightning reports missing files
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged header fails in many ways
        return False
    return True


def refuse(path: Path, changed: Mapping[str, str]) -> None:
    """Refuse to continue the run in ``path`` if settings have changed.

    Raises:
        InputError: A setting has changed. The message lists all that have.
    """
    if changed:
        raise InputError(
            f"{path} was started with other settings:\n"
            + "".join(f"  {key}: {values}\n" for key, values in changed.items())
            + "Repeat those settings to continue, or choose another directory: --trainer.default_root_dir or --runs."
        )


def announce_devices(checkpoint: Path, changed: Mapping[str, str]) -> None:
    """Warn if the number of devices has changed since a checkpoint was saved."""
    numbers = ("trainer.devices", "trainer.num_nodes")
    devices = [f"{key}: {values}" for key, values in changed.items() if concerns(key, numbers)]
    if devices:
        rank_zero_warn(
            f"{checkpoint} continues on other devices ({', '.join(devices)}): every step has the same samples, but "
            "sums are rounded differently, and BatchNorm without synchronization sees other shares of the batch."
        )
