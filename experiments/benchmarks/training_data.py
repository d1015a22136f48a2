"""Data to measure a training on: drawn images, and the loader that a run reads them with."""

import json
import logging
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from datamodules.datamodule import LoaderOptions
from datamodules.folder.datamodule import FolderDataModule
from datamodules.io.images import list_images
from datamodules.sample import Sample
from datamodules.transforms import RandomScaleCropFlip
from experiments.benchmarks.data import CLICKS, draw_photographs
from experiments.benchmarks.plain_loop import Setting

IMAGES = 64
PIXELS = 2**24  # of all images together, or large ones take minutes to draw


def draw_tree(root: Path, setting: Setting) -> None:
    """Write a folder that :class:`FolderDataModule` reads: images, clicks, and one image to validate on.

    Args:
        root: The folder, not there yet.
        setting: Classes, and size and type of the images.
    """
    width, height = setting.image
    number = min(IMAGES, PIXELS // (width * height))
    draw_photographs(root / "images" / "train", number, setting.image, setting.suffix)
    draw_photographs(root / "images" / "val", 1, setting.image, setting.suffix)
    (root / "masks" / "val").mkdir(parents=True)
    PILImage.fromarray(np.zeros((height, width), dtype=np.uint8)).save(root / "masks" / "val" / "000.png")
    (root / "classes.txt").write_text("".join(f"class {k}\n" for k in range(setting.classes)))
    rng = np.random.default_rng(0)
    clicks = {
        path.stem: [
            {"class": int(rng.integers(setting.classes)), "points": [rng.uniform(0, setting.image).tolist()]}
            for _ in range(CLICKS)
        ]
        for path in list_images(root / "images" / "train")
    }
    (root / "clicks.json").write_text(json.dumps(clicks))


def make_loader(root: Path, setting: Setting, steps: int, num_workers: int) -> DataLoader[Sample]:
    """Return the loader of a run over ``root``.

    Args:
        root: See :func:`draw_tree`.
        setting: Batch and crop.
        steps: Length of the run.
        num_workers: Loader processes.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it would tell of the device every time
    data = FolderDataModule(
        str(root),
        augmentation=RandomScaleCropFlip(setting.crop),
        loader=LoaderOptions(setting.batch, num_workers),
    )
    data.trainer = Trainer(
        devices=1, max_steps=steps, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    return data.train_dataloader()
