"""Generated images, alone or as a dataset with clicks."""

import json
import logging
from dataclasses import dataclass
from math import prod
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PILImage
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from datamodules.folder.datamodule import FolderDataModule
from datamodules.loader import LoaderOptions
from datamodules.sample import Sample
from datamodules.transforms import RandomScaleCropFlip
from experiments.benchmarks.settings import TrainSize

CLICKS = 5  # per image
MAX_IMAGES = 64
MAX_PIXELS = 2**24  # of all images; more take minutes to generate


def draw_photographs(folder: Path, number: int, size: tuple[int, int] = (500, 375), suffix: str = "jpg") -> None:
    """Write images of smooth regions, edges and grain. Decoding them takes about as long as decoding photographs.

    Args:
        folder: Folder to create.
        number: Number of images. They are the same in every call.
        size: (W, H), pixels.
        suffix: "jpg", with quality 90, or "png".
    """
    folder.mkdir(parents=True)
    for index in range(number):
        rng = np.random.default_rng([0, index])
        image = np.full((*size[::-1], 3), 128.0)
        for cell in 2 ** np.arange(2, 8):
            coarse = rng.normal(size=(size[1] // cell + 2, size[0] // cell + 2, 3))
            image += 1.5 * cell**0.7 * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        for _ in range(8):
            shape = np.zeros(image.shape[:2], dtype=np.uint8)
            center, axes = rng.integers(size).tolist(), rng.integers(20, 120, size=2).tolist()
            cv2.ellipse(shape, center, axes, rng.uniform(0, 180), 0, 360, 1, cv2.FILLED)
            image[shape == 1] = 0.3 * image[shape == 1] + 0.7 * rng.uniform(0, 255, size=3)
        image += rng.normal(0, 6, size=(*size[::-1], 1))
        PILImage.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index:03}.{suffix}", quality=90)


@dataclass(frozen=True)
class PhotographFolder:
    """A dataset for ``FolderDataModule``: training images with clicks, and one validation image with a mask.

    Args:
        root: Folder that ``draw`` creates.
        size: Classes, images, batch and crop.
        num_workers: Number of loader processes.
    """

    root: Path
    size: TrainSize
    num_workers: int

    @property
    def cache(self) -> Path:
        """Folder of the decoded images, beside ``root``."""
        return self.root.with_name(f"{self.root.name}_cache")

    def draw(self) -> None:
        """Write the files."""
        number = min(MAX_IMAGES, MAX_PIXELS // prod(self.size.image))
        for split, images in (("train", number), ("val", 1)):
            draw_photographs(self.root / "images" / split, images, self.size.image, self.size.suffix)
        masks = self.root / "masks" / "val"
        masks.mkdir(parents=True)
        PILImage.fromarray(np.zeros(self.size.image[::-1], dtype=np.uint8)).save(masks / "000.png")
        (self.root / "classes.txt").write_text("".join(f"class {k}\n" for k in range(self.size.classes)))
        rng = np.random.default_rng(0)
        clicks = {
            f"{index:03}": [
                {"class": int(rng.integers(self.size.classes)), "points": [rng.uniform(0, self.size.image).tolist()]}
                for _ in range(CLICKS)
            ]
            for index in range(number)
        }
        (self.root / "clicks.json").write_text(json.dumps(clicks))

    def loader(self, steps: int) -> DataLoader[Sample]:
        """Return a training loader of ``steps`` batches, which reads the image cache."""
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # Trainer() lists the devices
        loader = LoaderOptions(self.size.batch, self.num_workers, str(self.cache))
        data = FolderDataModule(str(self.root), augmentation=RandomScaleCropFlip(self.size.crop), loader=loader)
        data.trainer = Trainer(devices=1, max_steps=steps, barebones=True)
        data.prepare_data()
        return data.train_dataloader()
