"""Generated photographs, alone or as a folder with clicks to train on."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PILImage
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from datamodules.datamodule import LoaderOptions
from datamodules.folder.datamodule import FolderDataModule
from datamodules.io.images import list_images
from datamodules.sample import Sample
from datamodules.transforms import RandomScaleCropFlip
from experiments.benchmarks.settings import TrainSize

CLICKS = 5  # per image
MAX_IMAGES = 64
MAX_PIXELS = 2**24  # of all images together; more take minutes to generate


def draw_photographs(folder: Path, number: int, size: tuple[int, int] = (500, 375), suffix: str = "jpg") -> None:
    """Write images that are about as hard to decode as photographs: smooth regions, edges and grain.

    Args:
        folder: Must not exist.
        number: Number of images. Each is the same in every call.
        size: (W, H), pixels.
        suffix: "jpg", of quality 90, or "png".
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
    """A folder for ``FolderDataModule``: images with clicks, and one image with a mask for validation.

    Args:
        root: The folder. It must not exist before ``draw``.
        size: Classes, size and type of the images, batch and crop.
        num_workers: Loader processes.
    """

    root: Path
    size: TrainSize
    num_workers: int

    def draw(self) -> None:
        """Write the folder."""
        (width, height), images = self.size.image, self.root / "images"
        number = min(MAX_IMAGES, MAX_PIXELS // (width * height))
        draw_photographs(images / "train", number, self.size.image, self.size.suffix)
        draw_photographs(images / "val", 1, self.size.image, self.size.suffix)
        (self.root / "masks" / "val").mkdir(parents=True)
        PILImage.fromarray(np.zeros((height, width), dtype=np.uint8)).save(self.root / "masks" / "val" / "000.png")
        (self.root / "classes.txt").write_text("".join(f"class {k}\n" for k in range(self.size.classes)))
        rng = np.random.default_rng(0)
        clicks = {
            path.stem: [
                {"class": int(rng.integers(self.size.classes)), "points": [rng.uniform(0, self.size.image).tolist()]}
                for _ in range(CLICKS)
            ]
            for path in list_images(images / "train")
        }
        (self.root / "clicks.json").write_text(json.dumps(clicks))

    def loader(self, steps: int) -> DataLoader[Sample]:
        """Return the training loader of a run of ``steps`` steps."""
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # Trainer() lists the devices
        loader = LoaderOptions(self.size.batch, self.num_workers)
        data = FolderDataModule(str(self.root), augmentation=RandomScaleCropFlip(self.size.crop), loader=loader)
        data.trainer = Trainer(devices=1, max_steps=steps, barebones=True)
        return data.train_dataloader()
