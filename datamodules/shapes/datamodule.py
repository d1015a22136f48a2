"""The embedded dataset: drawn by ``datamodules/scenes.py``, not downloaded."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import LabelMap
from datamodules.datamodule import LoaderOptions, SegmentationDataModule
from datamodules.dataset import SegmentationDataset
from datamodules.shapes.scenes import CLASSES, draw_scene
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import Image, Labels, RandomScaleCropFlip

SUPERVISIONS = ("clicks", "scribbles", "full")
MIN_AREA = 40  # pixels; less of a partly hidden object gets no weak label


class ShapesDataset(SegmentationDataset):
    """One split, drawn on first use.

    Args:
        length: Number of images.
        size: Height and width, pixels.
        supervision: "clicks" (one per visible part of an object and of the background), "scribbles" or "full".
        seed: Scene i is a function of (seed, i).
    """

    def __init__(self, length: int, size: int, supervision: str, seed: int) -> None:
        self.length = length
        self.size = size
        self.supervision = supervision
        self.seed = seed

    @cached_property
    def _scenes(self) -> list[tuple[Image, LabelMap, Labels]]:
        return [self._draw(index) for index in range(self.length)]

    def _draw(self, index: int) -> tuple[Image, LabelMap, Labels]:
        rng = np.random.default_rng([self.seed, index])
        image, mask, instances = draw_scene(self.size, rng)
        classes = {int(instances[y, x]): int(mask[y, x]) for y, x in zip(*self._first(instances), strict=True)}
        labels: Labels = mask
        if self.supervision == "clicks":
            labels = ClickSimulator(min_area=MIN_AREA)(instances, classes)
        elif self.supervision == "scribbles":
            labels = ScribbleSimulator(min_area=MIN_AREA)(instances, classes, rng)
        return image, mask, labels

    @staticmethod
    def _first(instances: NDArray[np.int32]) -> tuple[NDArray[np.intp], ...]:
        return np.unravel_index(np.unique(instances, return_index=True)[1], instances.shape)

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """Identify the scene."""
        return f"shapes_{self.seed}_{index:04}"

    def image(self, index: int) -> Image:
        """Return uint8 (size, size, 3), RGB."""
        return self._scenes[index][0]

    def dense_mask(self, index: int) -> LabelMap:
        """Return the label map, uint8 (size, size)."""
        return self._scenes[index][1]

    def weak_labels(self, index: int) -> Labels:
        """Return what ``supervision`` lets training see."""
        return self._scenes[index][2]


class ShapesDataModule(SegmentationDataModule):
    """The embedded dataset.

    Args:
        supervision: What training may see: "clicks", "scribbles" or "full".
        num_train: Images to train on.
        num_val: Images to evaluate on.
        size: Height and width of the images, pixels.
        augmentation: See :class:`SegmentationDataModule`, as for the rest.
    """

    supervisions = SUPERVISIONS

    def __init__(
        self,
        supervision: str = "clicks",
        num_train: int = 100,
        num_val: int = 60,
        size: int = 160,
        augmentation: RandomScaleCropFlip = RandomScaleCropFlip(crop=128, scale=(0.8, 1.25)),
        stroke_width: int = 1,
        loader: LoaderOptions = LoaderOptions(8, 0),
        seed: int = 0,
    ) -> None:
        super().__init__(supervision, augmentation, stroke_width, loader, seed)
        self.class_names = ["background", *CLASSES]
        self._train = ShapesDataset(num_train, size, supervision, seed=0)
        self._val = ShapesDataset(num_val, size, supervision, seed=1)

    def train_split(self) -> ShapesDataset:
        """Scenes with the labels that training may see."""
        return self._train

    def val_split(self) -> ShapesDataset:
        """Other scenes."""
        return self._val
