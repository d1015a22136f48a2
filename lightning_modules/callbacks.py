"""What a run shows and leaves beside its checkpoints."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_modules.palette import colorize, save_palette_png
from lightning_modules.weak_segmentation import WeakSegmentation


class PredictionGallery(Callback):
    """Shows evenly spread validation images over time: indexed PNGs in ``gallery`` and, with W&B, panels.

    Args:
        count: Number of images.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._panels: list[NDArray[np.uint8]] = []
        self._names: list[str] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keep image, truth and prediction side by side."""
        batches = int(trainer.num_val_batches[0])
        shown = {k * batches // self.count for k in range(self.count)}
        if batch_idx not in shown or trainer.sanity_checking or not trainer.is_global_zero:
            return
        prediction = _array(outputs)
        save_palette_png(prediction, Path(trainer.default_root_dir) / "gallery" / f"{batch['name'][0]}.png")
        image = batch["image"][0].permute(1, 2, 0).cpu().numpy()
        self._panels.append(np.hstack([image, colorize(_array(batch["target"])), colorize(prediction)]))
        self._names.append(batch["name"][0])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pass the panels on."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and self._panels:
                logger.log_image("val/gallery", self._panels, caption=self._names)
        self._panels, self._names = [], []


class PerClassTable(Callback):
    """Writes the IoU of each class to ``iou_per_class.csv`` and prints it when a run or an evaluation is over."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table; a class that is neither in the truth nor predicted is n/a."""
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(pl_module, WeakSegmentation):
            return
        rows = [(n, _percent(v)) for n, v in zip(pl_module.class_names, pl_module.val_iou, strict=True)]
        rows.append(("mean", _percent(pl_module.val_iou.nanmean())))
        path = Path(trainer.default_root_dir) / "iou_per_class.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("class", "IoU"), *rows])
        fitting = trainer.state.fn == TrainerFn.FITTING
        if not fitting or trainer.global_step == trainer.max_steps:
            table = Table("class", "IoU", title=f"step {trainer.global_step}" if fitting else None)
            for row in rows:
                table.add_row(*row)
            Console().print(table)

    on_test_end = on_validation_end


class PredictionWriter(Callback):
    """``gatedcrf predict``: writes each prediction as an indexed PNG, named after its image."""

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write one prediction."""
        save_palette_png(_array(outputs), Path(trainer.default_root_dir) / f"{batch['name'][0]}.png")


def _array(labels: Tensor) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = labels[0].cpu().numpy()
    return array


def _percent(iou: Tensor) -> str:
    return "n/a" if iou.isnan() else f"{iou.item():.2f}"
