"""Metrics of an evaluation as files, a table, and W&B entries."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table

from datamodules.io.atomic import atomic_write
from lightning_modules.callbacks.gallery import log_pictures, logged_step, wandb_loggers
from lightning_modules.weak_segmentation import WeakSegmentation


class EvaluationReport(Callback):
    """Writes ``metrics.json``, ``iou_per_class.csv``, ``confusion_matrix.csv`` and ``confusion_matrix.png``.

    Every evaluation replaces these files and is logged to W&B. Only the last evaluation prints the table. The IoU of a
    class in neither target nor prediction is "n/a".
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, log and print the metrics."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, WeakSegmentation)
        assert pl_module.evaluation is not None
        evaluation, folder = pl_module.evaluation, Path(trainer.default_root_dir)
        names, fitting = evaluation.class_names, trainer.state.fn == TrainerFn.FITTING
        checkpoint = None if fitting or trainer.ckpt_path is None else str(trainer.ckpt_path)
        title = f"step {evaluation.step}, {evaluation.name}, {evaluation.images} images"
        values = [*zip(names, evaluation.iou.tolist(), strict=True), ("mean", evaluation.miou)]
        rows = [(name, "n/a" if isnan(value) else f"{value:.2f}") for name, value in values]
        columns = ["truth / prediction", *names]
        counts = [[name, *row] for name, row in zip(names, evaluation.confusion.tolist(), strict=True)]

        summary = evaluation.summary() | {"checkpoint": checkpoint}
        atomic_write(folder / "metrics.json", json.dumps(summary, indent=2) + "\n")
        _write_csv(folder / "iou_per_class.csv", [("class", "IoU"), *rows])
        _write_csv(folder / "confusion_matrix.csv", [columns, *counts])
        picture = folder / "confusion_matrix.png"
        draw_confusion(evaluation.confusion.numpy(), names, title).savefig(picture, bbox_inches="tight")

        log_pictures(trainer, "val/confusion_matrix", {title: str(picture)})
        for logger in wandb_loggers(trainer):
            step = logged_step(trainer)
            logger.log_table("val/confusion_counts", columns, counts, step=step)
            defined = [[name, None if isnan(value) else value] for name, value in values]
            logger.log_table("val/iou_per_class", ["class", "IoU"], defined, step=step)

        if not fitting or trainer.global_step == trainer.max_steps:
            table = Table("class", "IoU")
            for row in rows:
                table.add_row(*row)
            Console().print(title, table, sep="\n", highlight=False)

    on_test_end = on_validation_end


def draw_confusion(confusion: NDArray[np.int64], class_names: Sequence[str], title: str) -> Figure:
    """Draw a (C, C) confusion matrix with ground truth in rows, in percent of the row. Rows without pixels are gray."""
    pixels = np.broadcast_to(confusion.sum(axis=1, keepdims=True), confusion.shape)
    percent = np.ma.array(100 * confusion / np.maximum(pixels, 1), mask=pixels == 0)
    side = 2 + 0.34 * len(class_names)  # inches
    figure = Figure(figsize=(side, side))
    axes = figure.add_subplot()
    axes.imshow(percent, cmap=colormaps["Blues"].with_extremes(bad="0.9"), vmin=0, vmax=100)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(class_names)), class_names, rotation=90)
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set_title(f"{title}\nrows: ground truth, columns: prediction, percent of each row")
    for row, column in np.argwhere(percent.filled(0) >= 0.5):
        value = percent[row, column]
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else "black")
    return figure


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    text = StringIO()
    csv.writer(text).writerows(rows)
    atomic_write(path, text.getvalue())
