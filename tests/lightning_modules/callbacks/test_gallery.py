"""Pictures of a real run against the network and the loss."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.callbacks import KernelGallery, PredictionGallery
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import GatedCRFLoss, GaussianKernel

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


def test_images_do_not_depend_on_the_batches(tmp_path: Path, trainer: Trainer, module: Module, loader: Loader) -> None:
    """Of images 0, 3, 6 and 9, the batches hold (0, 3, 6, 9, 12) and (1, 4, ...), or one image each."""
    pictures = []
    for batch_size in (1, None):
        model, data = module(), loader(*5 * SIZES, batch_size=batch_size)
        gallery = PredictionGallery(count=5)
        trainer(str(batch_size), callbacks=[gallery]).validate(model, data, verbose=False)
        folder = tmp_path / str(batch_size) / "gallery"
        pictures.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert len(data) == 3
    assert pictures[0] == pictures[1]
    assert sorted(pictures[0]) == [f"image{index}.png" for index in (0, 12, 3, 6, 9)]


def test_kernels_are_those_of_the_run_on_its_logits_grid(
    tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    """The network has stride 4: (12, 16) has 3 x 4 logits, and windows of 3 x 3 leave one column out."""
    crf = GatedCRFLoss([GaussianKernel({"rgb": 0.5, "xy": 2.0})], radius=1)
    model, data = module(regularizer=crf), loader((12, 16), (24, 24))
    run = trainer(callbacks=[KernelGallery(count=2)], max_steps=2, val_check_interval=1, check_val_every_n_epoch=None)
    run.fit(model, data, data)
    for sample, shape in zip(data, [(3, 3), (6, 6)], strict=True):
        drawn = np.asarray(Image.open(tmp_path / "kernels" / f"{sample['name'][0]}.png"))
        height, width = (4 * length for length in shape)
        assert np.array_equal(drawn[:, :width], sample["image"][0, :, :height, :width].permute(1, 2, 0))
        cells = drawn[::4, width::4]
        assert np.array_equal(drawn[:, width:], cells.repeat(4, axis=0).repeat(4, axis=1))
        assert cells.shape == (*shape, 3)
        size = tuple(length // 4 for length in sample["image"].shape[2:])
        expected = crf.draw_kernels({"rgb": model.standardize(sample["image"])}, size)
        np.testing.assert_array_equal(cells[..., 0], (255 * expected[0]).round().to(torch.uint8))
        assert cells[1, 1].tolist() == [255, 255, 255]


def test_kernels_are_drawn_once(tmp_path: Path, trainer: Trainer, module: Module, loader: Loader) -> None:
    path = tmp_path / "kernels" / "image0.png"
    path.parent.mkdir()
    path.write_text("from an earlier start")
    data = loader((12, 16), (12, 16))
    options = {"max_steps": 2, "val_check_interval": 1, "check_val_every_n_epoch": None}
    model = module(regularizer=GatedCRFLoss(radius=1))
    trainer(callbacks=[KernelGallery(count=2)], **options).fit(model, data, data)
    assert path.read_text() == "from an earlier start"
    assert (path.parent / "image1.png").is_file()


@pytest.mark.parametrize("radius", [None, 9])
def test_nothing_is_drawn_without_a_regularizer_or_where_no_window_fits(
    radius: int | None, tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    options = {"max_steps": 2, "val_check_interval": 1, "check_val_every_n_epoch": None}
    model = module(regularizer=None if radius is None else GatedCRFLoss(radius=radius))
    trainer(callbacks=[KernelGallery()], **options).fit(model, loader(*SIZES), loader(*SIZES))
    assert not (tmp_path / "kernels").exists()


def test_kernels_fit_images_that_the_stride_does_not_divide(
    tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    """(17, 40) has 5 x 10 logits: cells of 3 pixels fit, cells of 4 do not."""
    data = loader((17, 40), (17, 40))
    options = {"max_steps": 2, "val_check_interval": 1, "check_val_every_n_epoch": None}
    model = module(regularizer=GatedCRFLoss(radius=2))
    trainer(callbacks=[KernelGallery(count=1)], **options).fit(model, data, data)
    assert Image.open(tmp_path / "kernels" / "image0.png").size == (2 * 10 * 3, 5 * 3)
