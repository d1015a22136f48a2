"""Checkpoint files during and after writing, and the random numbers of a step."""

import random
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.fault_tolerance import CheckpointError, DurableCheckpointIO, RegularCheckpoint, StepSeed
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
Draws = list[tuple[float, float, float]]
SIZES = 4 * [(12, 16)]


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


def save(folder: Path, step: int, size: int = 1, name: str = "last.ckpt") -> None:
    DurableCheckpointIO().save_checkpoint({"global_step": step, "weights": torch.zeros(size)}, folder / name)


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
    assert steps(tmp_path) == {"best.ckpt": 3, "last.ckpt": 3, "previous.ckpt": 1}
    writer.save_checkpoint({"global_step": 4}, tmp_path / "last.ckpt")
    assert steps(tmp_path) == {"best.ckpt": 3, "last.ckpt": 4, "previous.ckpt": 3}


def test_nothing_is_lost_when_the_disk_is_full(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    with limited_file_size(4096), pytest.raises(CheckpointError, match=f"saved in {tmp_path} "):
        save(tmp_path, 3, size=10_000)
    assert steps(tmp_path) == {"last.ckpt": 2, "previous.ckpt": 1}


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=f"saved in {tmp_path / 'file'} "):
        save(tmp_path / "file", 1)


@pytest.mark.parametrize("plugins", [[DurableCheckpointIO()], None])
def test_a_run_saves_regularly_and_at_its_end(
    plugins: list[Any] | None, tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    """Without the plugin, Lightning keeps only one file."""
    options = {"callbacks": [RegularCheckpoint(2)], "enable_checkpointing": True, "plugins": plugins}
    trainer(max_steps=3, **options).fit(module(), loader(*SIZES))
    assert steps(tmp_path / "checkpoints") == {"last.ckpt": 3} | ({"previous.ckpt": 2} if plugins else {})


class Draw(pl.Callback):
    """Draws from each generator in each step, and once more after step ``extra``."""

    def __init__(self, extra: int = -1) -> None:
        self.extra, self.draws = extra, Draws()

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        self.draws.append((random.random(), np.random.rand(), torch.rand(()).item()))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.extra:
            self.on_before_backward(trainer)
            self.draws.pop()


def test_random_numbers_of_a_step_do_not_depend_on_earlier_draws(
    trainer: Trainer, module: Module, loader: Loader
) -> None:
    data = loader(*SIZES)

    def draws(seed: int = 0, extra: int = -1) -> Draws:
        draw, model = Draw(extra), module()
        torch.manual_seed(seed)
        trainer(max_steps=3, callbacks=[StepSeed(), draw]).fit(model, data)
        return draw.draws

    first = draws()
    assert draws(extra=2) == first
    assert len({number for draw in first for number in draw}) == 9
    assert not set(draws(seed=1)) & set(first)
