"""What a real run leaves on disk."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.callbacks import EvaluationReport, PredictionGallery, PredictionWriter
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
SIZES = ((12, 16), (9, 21), (10, 10))


def test_gallery_shows_evenly_spread_predictions(
    tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    model, data = module(), loader(*SIZES, *SIZES)
    trainer(callbacks=[PredictionGallery(count=2)]).validate(model, data, verbose=False)
    assert sorted(path.name for path in (tmp_path / "gallery").iterdir()) == ["image0.png", "image3.png"]
    for sample in list(data)[::3]:
        picture = Image.open(tmp_path / "gallery" / f"{sample['name'][0]}.png")
        assert np.array_equal(np.asarray(picture), model(sample["image"]).argmax(1)[0])


def test_every_prediction_is_written_under_its_name(
    tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    model, data = module(), loader(*SIZES)
    trainer(callbacks=[PredictionWriter()]).predict(model, data, return_predictions=False)
    assert len(list(tmp_path.glob("*.png"))) == 3
    for sample in data:
        picture = Image.open(tmp_path / f"{sample['name'][0]}.png")
        assert np.array_equal(np.asarray(picture), model(sample["image"]).argmax(1)[0])


@pytest.mark.parametrize("evaluation", ["validate", "test"])
def test_table_lists_every_class_and_the_mean(
    evaluation: str,
    tmp_path: Path,
    trainer: Trainer,
    module: Module,
    loader: Loader,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = module()
    getattr(trainer(callbacks=[EvaluationReport()]), evaluation)(model, loader(*SIZES), verbose=False)
    with (tmp_path / "iou_per_class.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    values = [f"{value:.2f}" for value in model.evaluation.iou[:3].tolist()]
    assert header == ["class", "IoU"]
    assert rows == [
        *map(list, zip("abc", values, strict=True)),
        ["d", "n/a"],
        ["mean", f"{model.evaluation.miou:.2f}"],
    ]
    printed = capsys.readouterr().out
    assert all(value in printed for value in [*values, "n/a"])


def test_table_is_printed_once_in_a_run(
    trainer: Trainer, module: Module, loader: Loader, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three validations on the way, the last one is."""
    run = trainer(callbacks=[EvaluationReport()], max_steps=6, val_check_interval=2, check_val_every_n_epoch=None)
    run.fit(module(), loader(*SIZES), loader(*SIZES))
    printed = capsys.readouterr().out
    assert printed.count("mean") == 1
    assert "step 6" in printed
