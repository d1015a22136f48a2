from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.callbacks import PredictionWriter
from lightning_modules.inference import Inference
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
SIZES = ((12, 16), (9, 21), (10, 10))


class WithLabelIds(pl.LightningDataModule):
    """A datamodule whose class indices 0 to 3 are label ids 7, 8, 11 and 12."""

    label_ids = (7, 8, 11, 12)

    def __init__(self, data: DataLoader[Sample]) -> None:
        super().__init__()
        self.data = data

    def predict_dataloader(self) -> DataLoader[Sample]:
        return self.data


@pytest.mark.parametrize("batch_size", [1, None])
def test_every_prediction_is_written_under_its_name(
    batch_size: int | None, tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    model, data = module(), loader(*SIZES, *SIZES, batch_size=batch_size)
    trainer(callbacks=[PredictionWriter()]).predict(model, data, return_predictions=False)
    assert len(list(tmp_path.rglob("*.png"))) == 6
    for sample in loader(*SIZES, *SIZES):
        picture = Image.open(tmp_path / f"{sample['name'][0]}.png")
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), model(sample["image"]).argmax(1)[0])


@pytest.mark.parametrize("evaluation", ["validate", "test"])
@pytest.mark.parametrize("requested", [False, True])
def test_evaluations_write_predictions_only_if_requested(
    evaluation: str, requested: bool, tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    getattr(trainer(callbacks=[PredictionWriter(requested)]), evaluation)(module(), loader(*SIZES), verbose=False)
    written = sorted(path.name for path in (tmp_path / "predictions").glob("*.png"))
    assert written == (["image0.png", "image1.png", "image2.png"] if requested else [])


def test_validation_of_a_run_writes_none(tmp_path: Path, trainer: Trainer, module: Module, loader: Loader) -> None:
    trainer(callbacks=[PredictionWriter(True)], max_steps=3).fit(module(), loader(*SIZES), loader(*SIZES))
    assert not (tmp_path / "predictions").exists()


def test_label_ids_replace_class_indices_and_missing_predictions(
    tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    model, data = module(inference=Inference(crop=8)), loader(*SIZES)
    trainer(callbacks=[PredictionWriter()]).predict(model, datamodule=WithLabelIds(data), return_predictions=False)
    for sample in data:
        name, (height, width) = sample["name"][0], sample["image"].shape[2:]
        label_ids = np.asarray(Image.open(tmp_path / "labelIds" / f"{name}_pred_labelIds.png"))
        indices = np.asarray(Image.open(tmp_path / f"{name}.png"))
        assert label_ids.shape == indices.shape == (height, width)
        assert (indices == 255).sum() == height * width - 64
        expected = [{0: 7, 1: 8, 2: 11, 3: 12, 255: 0}[index] for index in indices.flatten().tolist()]
        assert label_ids.flatten().tolist() == expected
