"""What a real evaluation leaves on disk."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.callbacks import EvaluationReport
from lightning_modules.callbacks.confusion_picture import draw_confusion
from lightning_modules.inference import Inference
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
SIZES = ((12, 16), (9, 21), (10, 10))


def count(model: WeakSegmentation, data: DataLoader[Sample]) -> np.ndarray:
    """Pixel by pixel."""
    confusion = np.zeros((4, 4), dtype=int)
    for sample in data:
        prediction = model(sample["image"]).argmax(1)
        for truth, predicted in zip(sample["target"].flatten().tolist(), prediction.flatten().tolist(), strict=True):
            if truth != 255:
                confusion[truth, predicted] += 1
    return confusion


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("evaluation", ["validate", "test"])
def test_every_file_tells_the_same(
    evaluation: str,
    tmp_path: Path,
    trainer: Trainer,
    module: Module,
    loader: Loader,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, data = module(), loader(*SIZES)
    confusion = count(model, data)
    iou = [100 * confusion[k, k] / (confusion[k].sum() + confusion[:, k].sum() - confusion[k, k]) for k in range(3)]
    getattr(trainer(callbacks=[EvaluationReport()]), evaluation)(model, data, verbose=False)

    table = [[name, f"{value:.2f}"] for name, value in zip("abc", iou, strict=True)]
    mean = ["mean", f"{np.mean(iou):.2f}"]
    assert read(tmp_path / "iou_per_class.csv") == [["class", "IoU"], *table, ["d", "n/a"], mean]
    printed = capsys.readouterr().out
    assert all(value in printed for _, value in [*table, mean])
    assert "whole image, 3 images" in printed

    (_, *names), *rows = read(tmp_path / "confusion_matrix.csv")
    assert names == [row[0] for row in rows] == list("abcd")
    assert np.array_equal(np.array(rows)[:, 1:].astype(int), confusion)
    title = "step 0, whole image, 3 images"
    assert np.array_equal(Image.open(tmp_path / "confusion_matrix.png"), draw_confusion(confusion, "abcd", title))

    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "evaluation": "whole image",
        "miou": pytest.approx(np.mean(iou), abs=1e-4),
        "pixel_accuracy": pytest.approx(100 * confusion.trace() / confusion.sum(), abs=1e-4),
        "iou": {**{name: pytest.approx(v, abs=1e-4) for name, v in zip("abc", iou, strict=True)}, "d": None},
        "images": 3,
        "step": 0,
        "checkpoint": None,
    }


def test_only_what_the_crop_shows_is_counted(tmp_path: Path, trainer: Trainer, module: Module, loader: Loader) -> None:
    """A crop of 8 pixels lies in every image: 64 pixels of each, less those without a label."""
    model, data = module(inference=Inference(crop=8)), loader(*SIZES)
    trainer(callbacks=[EvaluationReport()]).validate(model, data, verbose=False)
    labeled = 0
    for sample in data:
        height, width = sample["target"].shape[1:]
        top, left = (height - 7) // 2, (width - 7) // 2  # of an odd rest, the larger half is cut above and left
        labeled += int((sample["target"][:, top : top + 8, left : left + 8] != 255).sum())
    assert model.evaluation is not None
    assert model.evaluation.confusion.sum() == labeled
    assert json.loads((tmp_path / "metrics.json").read_text())["evaluation"] == "8 center crop"


def test_table_is_printed_once_in_a_run(
    trainer: Trainer, module: Module, loader: Loader, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three validations on the way, the last one is."""
    run = trainer(callbacks=[EvaluationReport()], max_steps=6, val_check_interval=2, check_val_every_n_epoch=None)
    run.fit(module(), loader(*SIZES), loader(*SIZES))
    printed = capsys.readouterr().out
    assert printed.count("mean") == 1
    assert "step 6" in printed


def test_step_is_that_of_the_checkpoint(tmp_path: Path, trainer: Trainer, module: Module, loader: Loader) -> None:
    data, path = loader(*SIZES), tmp_path / "some.ckpt"
    run = trainer(max_steps=3, val_check_interval=2, check_val_every_n_epoch=None)
    run.fit(module(), data, data)
    run.save_checkpoint(path)
    model = module()
    trainer(callbacks=[EvaluationReport()]).validate(model, data, ckpt_path=path, verbose=False)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["step"], metrics["checkpoint"]) == (3, str(path))
    assert model.best == run.lightning_module.best  # not of this evaluation, whose weights are others
