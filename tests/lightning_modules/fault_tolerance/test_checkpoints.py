"""When a run is saved."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.fault_tolerance import DurableCheckpointIO, RegularCheckpoint, StepGuard
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
SIZES = 4 * [(12, 16)]


def steps(folder: Path) -> dict[str, int]:
    return {path.name: torch.load(path)["global_step"] for path in folder.iterdir()}


class Sleep(pl.Callback):
    """Sleeps 0.3 s in step 2."""

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        time.sleep(0.3 if trainer.global_step == 1 else 0)


@pytest.mark.parametrize("plugins", [[DurableCheckpointIO()], None])
@pytest.mark.parametrize(("minutes", "before"), [(0, 3), (0.25 / 60, 3), (10, None)])
def test_a_run_saves_at_regular_times_and_at_its_end(
    minutes: float,
    before: int | None,
    plugins: list[Any] | None,
    tmp_path: Path,
    trainer: Trainer,
    module: Module,
    loader: Loader,
) -> None:
    """The second step takes longer than the interval, so the third is saved. Lightning's plugin keeps one file."""
    options = {"callbacks": [Sleep(), StepGuard(), RegularCheckpoint(minutes)], "plugins": plugins}
    trainer(max_steps=4, enable_checkpointing=True, **options).fit(module(), loader(*SIZES))
    assert steps(tmp_path / "checkpoints") == {"last.ckpt": 4} | (
        {"previous.ckpt": before} if plugins and before else {}
    )
