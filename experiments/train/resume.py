"""Checkpoints to continue from, and the settings that must stay."""

import sys
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import torch
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from datamodules.io.errors import InputError
from experiments.train.configuration import Difference
from lightning_modules.fault_tolerance.checkpoints import LAST, PREVIOUS


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newer of last.ckpt and previous.ckpt that is not damaged, or ``None`` if there is neither.

    Raises:
        InputError: All of them are damaged.
    """
    saved = [path for name in (LAST, PREVIOUS) if (path := folder / name).is_file()]
    for path in saved:
        if is_whole(path):
            return path
        _print(f"{path} is truncated or damaged; trying the one before")
    if saved:
        raise InputError(
            f"No checkpoint in {folder} is readable. Remove {' and '.join(path.name for path in saved)} there to start "
            "from the beginning, or name another directory with --trainer.default_root_dir."
        )
    return None


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint is readable and matches its checksums. A missing one is left to Lightning's error."""
    if not path.exists():
        return True
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged header fails in many ways
        return False
    return True


def refuse(path: Path, changed: Sequence[Difference]) -> None:
    """Raise an error that lists the settings that have changed since the run in ``path`` was started, if any.

    Raises:
        InputError: There are some.
    """
    if changed:
        raise InputError(
            f"{path} was started with other settings:\n"
            + "".join(f"  {difference}\n" for difference in changed)
            + "Repeat those settings to continue, or choose another directory: --trainer.default_root_dir or --runs."
        )


def announce_devices(checkpoint: Path, changed: Sequence[Difference]) -> None:
    """Warn if the number of devices has changed since a checkpoint was saved."""
    devices = [str(d) for d in changed if d.concerns(("trainer.devices", "trainer.num_nodes"))]
    if devices:
        rank_zero_warn(
            f"{checkpoint} continues on other devices ({', '.join(devices)}): every step has the same samples, but "
            "sums are rounded differently, and BatchNorm without synchronization sees other shares of the batch."
        )


@rank_zero_only
def _print(message: str) -> None:
    sys.stderr.write(f"gatedcrf: {message}\n")
