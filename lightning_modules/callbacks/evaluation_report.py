"""Metrics of an evaluation as files, a table, and W&B entries."""

import csv
import json
from collections.abc import Sequence
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

from lightning_modules.callbacks.gallery import log_pictures, logged_step, wandb_loggers
from lightning_modules.evaluation import Evaluation
from lightning_modules.weak_segmentation import WeakSegmentation


class EvaluationReport(Callback):
    """Writes ``metrics.json``, ``iou_per_class.csv``, ``confusion_matrix.csv`` and ``confusion_matrix.png``.

    Every evaluation replaces these files and is logged to W&B. The table is printed after the last evaluation only.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files. The IoU of a class in neither target nor prediction is "n/a"."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, WeakSegmentation)
        assert pl_module.evaluation is not None
        evaluation, folder = pl_module.evaluation, Path(trainer.default_root_dir)
        fitting = trainer.state.fn == TrainerFn.FITTING
        checkpoint = None if fitting or trainer.ckpt_path is None else str(trainer.ckpt_path)
        folder.mkdir(parents=True, exist_ok=True)
        summary = evaluation.summary() | {"checkpoint": checkpoint}
        (folder / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n")
        _write_csv(folder / "iou_per_class.csv", [["class", "IoU"], *_rows(evaluation)])
        _write_csv(folder / "confusion_matrix.csv", _counts(evaluation))
        picture = draw_confusion(evaluation.confusion.numpy(), evaluation.class_names, _title(evaluation))
        picture.savefig(folder / "confusion_matrix.png", bbox_inches="tight")
        _log(trainer, evaluation, folder / "confusion_matrix.png")
        if not fitting or trainer.global_step == trainer.max_steps:
            table = Table("class", "IoU")
            for row in _rows(evaluation):
                table.add_row(*row)
            Console().print(_title(evaluation), table, sep="\n", highlight=False)

    on_test_end = on_validation_end


def draw_confusion(confusion: NDArray[np.int64], class_names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix in percent of each row.

    Args:
        confusion: (C, C), rows are the truth. Rows without pixels are gray.
        class_names: C names.
        title: First line of the title.
    """
    pixels = np.broadcast_to(confusion.sum(axis=1, keepdims=True), confusion.shape)
    percent = np.ma.array(100 * confusion / np.maximum(pixels, 1), mask=pixels == 0)
    side = 2 + 0.34 * len(class_names)  # inches
    figure = Figure(figsize=(side, side))
    axes = figure.add_subplot()
    axes.imshow(percent, cmap=colormaps["Blues"].with_extremes(bad="0.9"), vmin=0, vmax=100)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(class_names)), class_names, rotation=90)
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set_title(f"{title}\nrows: truth, columns: prediction, percent of the row")
    for row, column in np.argwhere(percent.filled(0) >= 0.5):
        value = percent[row, column]
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else "black")
    return figure


def _title(evaluation: Evaluation) -> str:
    return f"step {evaluation.step}, {evaluation.name}, {evaluation.images} images"


def _rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    return [(name, f"{v:.2f}" if v == v else "n/a") for name, v in _values(evaluation)]


def _values(evaluation: Evaluation) -> list[tuple[str, float]]:
    names, values = [*evaluation.class_names, "mean"], [*evaluation.iou.tolist(), evaluation.miou]
    return list(zip(names, values, strict=True))


def _counts(evaluation: Evaluation) -> list[list[Any]]:
    rows = zip(evaluation.class_names, evaluation.confusion.tolist(), strict=True)
    return [["truth / prediction", *evaluation.class_names], *([name, *row] for name, row in rows)]


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _log(trainer: Trainer, evaluation: Evaluation, picture: Path) -> None:
    log_pictures(trainer, "val/confusion_matrix", {_title(evaluation): str(picture)})
    (columns, *counts), step = _counts(evaluation), logged_step(trainer)
    for logger in wandb_loggers(trainer):
        logger.log_table("val/confusion_counts", columns, counts, step=step)
        rows = [[name, v if v == v else None] for name, v in _values(evaluation)]
        logger.log_table("val/iou_per_class", ["class", "IoU"], rows, step=step)
