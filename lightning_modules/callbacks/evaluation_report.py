"""What an evaluation leaves on disk and in W&B."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table

from lightning_modules.callbacks.confusion_picture import draw_confusion
from lightning_modules.callbacks.gallery import log_pictures, logged_step, wandb_loggers
from lightning_modules.evaluation import Evaluation
from lightning_modules.weak_segmentation import WeakSegmentation


class EvaluationReport(Callback):
    """Writes each evaluation: ``metrics.json``, ``iou_per_class.csv``, ``confusion_matrix.csv`` and its picture.

    The table is also printed when a run or an evaluation is over. With W&B, all of it is logged.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files; a class that is neither in the truth nor predicted is n/a."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, WeakSegmentation)
        assert pl_module.evaluation is not None
        found, folder = pl_module.evaluation, Path(trainer.default_root_dir)
        fitting = trainer.state.fn == TrainerFn.FITTING
        checkpoint = None if fitting or trainer.ckpt_path is None else str(trainer.ckpt_path)
        picture = draw_confusion(found.confusion.numpy(), found.class_names, _title(found))
        folder.mkdir(parents=True, exist_ok=True)
        _write_csv(folder / "iou_per_class.csv", [["class", "IoU"], *_rows(found)])
        _write_csv(folder / "confusion_matrix.csv", _counts(found))
        picture.save(folder / "confusion_matrix.png")
        summary = found.summary() | {"checkpoint": checkpoint}
        (folder / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n")
        _log(trainer, found, picture)
        if not fitting or trainer.global_step == trainer.max_steps:
            table = Table("class", "IoU")
            for row in _rows(found):
                table.add_row(*row)
            console = Console()
            console.print(_title(found), highlight=False)
            console.print(table)

    on_test_end = on_validation_end


def _title(found: Evaluation) -> str:
    return f"step {found.step}, {found.name}, {found.images} images"


def _rows(found: Evaluation) -> list[tuple[str, str]]:
    return [(name, f"{v:.2f}" if v == v else "n/a") for name, v in _values(found)]


def _values(found: Evaluation) -> list[tuple[str, float]]:
    return list(zip([*found.class_names, "mean"], [*found.iou.tolist(), found.miou], strict=True))


def _counts(found: Evaluation) -> list[list[Any]]:
    rows = zip(found.class_names, found.confusion.tolist(), strict=True)
    return [["truth / prediction", *found.class_names], *([name, *row] for name, row in rows)]


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _log(trainer: Trainer, found: Evaluation, picture: Image.Image) -> None:
    log_pictures(trainer, "val/confusion_matrix", {_title(found): picture})
    (columns, *counts), step = _counts(found), logged_step(trainer)
    for logger in wandb_loggers(trainer):
        logger.log_table("val/confusion_counts", columns, counts, step=step)
        rows = [[name, v if v == v else None] for name, v in _values(found)]
        logger.log_table("val/iou_per_class", ["class", "IoU"], rows, step=step)
