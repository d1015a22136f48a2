"""Lines and the bar."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.callbacks import Progress
from lightning_modules.callbacks import progress as module_of_progress
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]


def test_lines_are_printed_where_there_is_no_terminal(
    trainer: Trainer, module: Module, loader: Loader, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(module_of_progress, "LINE_INTERVAL_S", 0.0)
    progress = trainer(max_steps=5, log_every_n_steps=2, callbacks=[Progress()], enable_progress_bar=True)
    progress.fit(module(), loader((12, 16)))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split(",")[0] for line in lines] == ["step 2 of 5", "step 4 of 5"]
    assert all("train/loss" in line and line.endswith("0 min left") for line in lines)


class Read(pl.Callback):
    """Records the metrics that the bar shows after each step."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert trainer.progress_bar_callback is not None
        self.shown.append(trainer.progress_bar_callback.get_metrics(trainer, pl_module).get("train/loss"))


def test_metrics_are_read_in_logged_steps_only(trainer: Trainer, module: Module, loader: Loader) -> None:
    read = Read()
    callbacks = [Progress(), read]
    trainer(max_steps=6, log_every_n_steps=2, callbacks=callbacks, enable_progress_bar=True).fit(
        module(), loader((12, 16))
    )
    assert read.shown[:2] == [None, None]
    assert read.shown[2] == read.shown[3] != read.shown[4]
