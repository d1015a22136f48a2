"""Checks before a run resumes: intact checkpoints and unchanged settings.

RUNTIME_OPTIONS and SCHEDULE_OPTIONS are in :mod:`experiments.train.configuration`.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn
from torch import nn

from datamodules.io.errors import InputError
from experiments.train.configuration import RUNTIME_OPTIONS, concerns, differences, fault_tolerance
from lightning_modules.fault_tolerance.checkpoint_io import LAST, PREVIOUS
from lightning_modules.weight_files import why_unreadable


def newest_checkpoint(folder: Path) -> Path | None:
    """Return last.ckpt, or previous.ckpt if that one is damaged, or ``None`` if there is neither.

    Raises:
        InputError: All of them are damaged.
    """
    saved = [path for name in (LAST, PREVIOUS) if (path := folder / name).is_file()]
    for path in saved:
        flaw = find_flaw(path)
        if flaw is None:
            return path
        _print(f"{path} {flaw}; trying the previous one")
    if saved:
        raise InputError(
            f"No checkpoint in {folder} is readable. Remove {' and '.join(path.name for path in saved)} there to start "
            "from the beginning, or name a different directory with --trainer.default_root_dir."
        )
    return None


def refuse_to_start_over(folder: Path, checkpoint: Path | None) -> None:
    """Raise :class:`InputError` if a folder has checkpoints of a run, and ``checkpoint`` is not one of them."""
    if folder.is_dir() and (checkpoint is None or checkpoint.resolve().parent != folder.resolve()):
        raise InputError(
            f"{folder.parent} already holds a run. Continue it with --ckpt_path=last, or name a different directory "
            "with --trainer.default_root_dir."
        )


def find_flaw(path: Path) -> str | None:
    """Return in one line why a file is not a usable checkpoint. Return ``None`` if it is and matches its checksums."""
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                return "is truncated or damaged"
        content = _load(path)
    except Exception:  # a damaged header fails in many ways
        return why_unreadable(path)
    if not isinstance(content, dict) or "global_step" not in content or not isinstance(content.get("state_dict"), dict):
        return "is not a checkpoint of a run, with state_dict and global_step"
    return None


def check_weights_fit(checkpoint: Path | str | None, model: nn.Module) -> None:
    """Compare the weights of a checkpoint, if there is one, with those of a model.

    Raises:
        InputError: They differ in names or shapes.
    """
    if checkpoint is None:
        return
    held, wanted = (_shapes(weights) for weights in (_load(checkpoint)["state_dict"], model.state_dict()))
    wrong = sorted({name for name, _ in held.items() ^ wanted.items()})
    if wrong:
        raise InputError(
            f"{checkpoint} holds the weights of another model: {len(wrong)} tensors differ in name or shape, the first "
            f"is {wrong[0]}. Pass the configuration of its run, -c RUN/config.yaml, or another checkpoint."
        )


def _load(path: Path | str) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(weight, "shape", ())) for name, weight in weights.items()}


def check_settings(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Compare the configuration of a run that continues with the one that it was started with; return what changed.

    Raises:
        InputError: Settings other than ``RUNTIME_OPTIONS`` differ, or a callback that exact resume needs.
    """
    changed = differences(before, now)
    refuse(path, {key: changed[key] for key in changed if not concerns(key, RUNTIME_OPTIONS)})
    refuse(path, differences(fault_tolerance(before), fault_tolerance(now), "trainer.callbacks"))
    return changed


def refuse(path: Path, changed: Mapping[str, str]) -> None:
    """Refuse to continue the run in ``path`` if settings have changed.

    Raises:
        InputError: A setting has changed. The message lists all that have.
    """
    if changed:
        raise InputError(
            f"{path} was started with other settings:\n"
            + "".join(f"  {key}: {values}\n" for key, values in changed.items())
            + "Repeat those settings to resume, or choose a different directory: --trainer.default_root_dir or --runs."
        )


def announce(checkpoint: Path, changed: Mapping[str, str]) -> None:
    """Print which runtime options have changed since a checkpoint was saved. Warn if the number of devices has."""
    others = [key for key in changed if not concerns(key, ("ckpt_path", "trainer.default_root_dir"))]
    if "trainer.default_root_dir" in changed:  # which loggers repeat
        others = [key for key in others if not concerns(key, ("trainer.logger",))]
    if others:
        _print(f"{checkpoint} resumes with changed values of {', '.join(others)}")
    if any(concerns(key, ("trainer.devices", "trainer.num_nodes")) for key in others):
        rank_zero_warn(
            "The number of devices has changed. Each step has the same samples, but rounding differs, and BatchNorm "
            "without synchronization uses different per-device batches."
        )


@rank_zero_only
def _print(message: str) -> None:
    sys.stderr.write(f"gatedcrf: {message}\n")
