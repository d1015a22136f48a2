"""Checkpoint files during and after writing."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lightning_modules.fault_tolerance import DurableCheckpointIO


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Limit the size of all files that this process writes, to simulate a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def steps(folder: Path) -> dict[str, int]:
    return {path.name: torch.load(path)["global_step"] for path in folder.iterdir()}


def save(folder: Path, step: int, size: int = 1, name: str = "last.ckpt") -> str:
    """Write a checkpoint and return the error."""
    plugin = DurableCheckpointIO()
    plugin.save_checkpoint({"global_step": step, "weights": torch.zeros(size)}, folder / name)
    plugin.wait()
    return plugin.error


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    save(folder, 1)
    assert steps(folder) == {"last.ckpt": 1}
    save(folder, 2)
    save(folder, 3)
    assert steps(folder) == {"last.ckpt": 3, "previous.ckpt": 2}


def test_other_checkpoints_are_replaced_without_a_trace(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step, name="best.ckpt")
    assert steps(tmp_path) == {"best.ckpt": 2}


def test_a_run_continued_from_the_previous_checkpoint_keeps_it(tmp_path: Path) -> None:
    """The last one is damaged; it must not replace a readable one."""
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    writer = DurableCheckpointIO()
    writer.load_checkpoint(tmp_path / "previous.ckpt")
    for name, step in (("best.ckpt", 3), ("last.ckpt", 3)):
        writer.save_checkpoint({"global_step": step}, tmp_path / name)
    writer.wait()
    assert steps(tmp_path) == {"best.ckpt": 3, "last.ckpt": 3, "previous.ckpt": 1}
    writer.save_checkpoint({"global_step": 4}, tmp_path / "last.ckpt")
    writer.wait()
    assert steps(tmp_path) == {"best.ckpt": 3, "last.ckpt": 4, "previous.ckpt": 3}


def test_nothing_is_lost_when_the_disk_is_full(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    with limited_file_size(4096):
        error = save(tmp_path, 3, size=10_000)
    assert f"saved in {tmp_path} (File too large)" in error
    assert steps(tmp_path) == {"last.ckpt": 2, "previous.ckpt": 1}


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"saved in {tmp_path / 'file'} " in save(tmp_path / "file", 1)


def test_later_changes_of_the_weights_are_not_saved(tmp_path: Path) -> None:
    """The file is written while the training continues."""
    plugin, weights = DurableCheckpointIO(), torch.zeros(1_000_000)
    plugin.save_checkpoint({"weights": weights}, tmp_path / "last.ckpt")
    weights += 1
    plugin.wait()
    assert not torch.load(tmp_path / "last.ckpt")["weights"].any()


def test_checkpoints_are_written_in_order(tmp_path: Path) -> None:
    plugin = DurableCheckpointIO()
    for step in range(10):
        plugin.save_checkpoint({"global_step": step}, tmp_path / "last.ckpt")
    plugin.teardown()
    assert steps(tmp_path) == {"last.ckpt": 9, "previous.ckpt": 8}
