"""What is on the disk while checkpoints are written and after."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from lightning_modules.fault_tolerance.durable_io import CheckpointError, DurableCheckpointIO


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a number of bytes, as a full disk would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content(folder: Path) -> dict[str, int]:
    return {path.name: torch.load(path)["step"] for path in folder.iterdir()}


def save(folder: Path, step: int, size: int = 1) -> None:
    checkpoint = {"step": step, "weights": torch.zeros(size)}
    DurableCheckpointIO().save_checkpoint(checkpoint, folder / "last.ckpt", folder / "previous.ckpt")


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    save(folder, 1)
    assert content(folder) == {"last.ckpt": 1}
    save(folder, 2)
    save(folder, 3)
    assert content(folder) == {"last.ckpt": 3, "previous.ckpt": 2}


def test_a_file_is_replaced_without_a_trace(tmp_path: Path) -> None:
    for step in (1, 2):
        DurableCheckpointIO().save_checkpoint({"step": step}, tmp_path / "best.ckpt")
    assert content(tmp_path) == {"best.ckpt": 2}


def test_nothing_is_lost_when_the_disk_is_full(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    with files_of_at_most(4096), pytest.raises(CheckpointError, match=f"saved in {tmp_path} "):
        save(tmp_path, 3, size=10_000)
    assert content(tmp_path) == {"last.ckpt": 2, "previous.ckpt": 1}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=f"saved in {tmp_path / 'file'} "):
        save(tmp_path / "file", 1)
