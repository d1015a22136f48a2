"""Tiny real data: datasets in memory and a folder on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from datamodules.annotations import LabelMap
from datamodules.dataset import SegmentationDataset
from datamodules.folder.datamodule import FolderDataModule
from datamodules.loader import LoaderOptions
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import Image, Labels, RandomScaleCropFlip

SIZES = {"train": [(40, 30), (30, 40), (32, 32)], "val": [(36, 28), (28, 36)]}  # (W, H)


class Arrays(SegmentationDataset):
    """Images, masks and labels in memory."""

    def __init__(self, images: list[Image], masks: list[LabelMap | None], labels: list[Labels]) -> None:
        self.images, self.masks, self.all_labels = images, masks, labels

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return f"image{index}"

    def image(self, index: int) -> Image:
        return self.images[index]

    def shape(self, index: int) -> tuple[int, int]:
        height, width, _ = self.images[index].shape
        return height, width

    def dense_mask(self, index: int) -> LabelMap | None:
        return self.masks[index]

    def weak_labels(self, index: int) -> Labels:
        return self.all_labels[index]


@pytest.fixture
def arrays() -> Callable[[list[Image], list[LabelMap | None], list[Labels]], SegmentationDataset]:
    return Arrays


@pytest.fixture
def save_mask() -> Callable[[Path, LabelMap], None]:
    """Write a palette PNG whose colors differ from its indices."""

    def save(path: Path, mask: LabelMap) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = PILImage.fromarray(mask)
        picture.putpalette([(7 * value + 100) % 256 for value in range(768)])
        assert picture.mode == "P"
        picture.save(path)

    return save


@pytest.fixture
def tree(tmp_path: Path, save_mask: Callable[[Path, LabelMap], None]) -> Path:
    """Three training and two validation images with masks: class 1 on the left half, 255 in the first row."""
    root = tmp_path / "tree"
    rng = np.random.default_rng(0)
    for split, sizes in SIZES.items():
        (root / "images" / split).mkdir(parents=True)
        for index, (width, height) in enumerate(sizes):
            image = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
            suffix = ".png" if index == 1 else ".jpg"
            PILImage.fromarray(image).save(root / "images" / split / f"{split}.{index}{suffix}")
            mask = np.zeros((height, width), dtype=np.uint8)
            mask[:, : width // 2] = 1
            mask[0] = 255
            save_mask(root / "masks" / split / f"{split}.{index}.png", mask)
    (root / "classes.txt").write_text("sky\n  tree \n\n")
    return root


@pytest.fixture
def folder(tree: Path) -> Callable[..., FolderDataModule]:
    """Open ``tree`` with small crops and batches."""

    def open_folder(**options: Any) -> FolderDataModule:
        settings = {
            "click_simulator": ClickSimulator(20),
            "scribble_simulator": ScribbleSimulator(20),
            "augmentation": RandomScaleCropFlip(16),
            "loader": LoaderOptions(2, 0),
        }
        return FolderDataModule(str(tree), **{**settings, **options})

    return open_folder
