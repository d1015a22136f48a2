"""The built-in dataset: drawn on first use, not downloaded."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from datamodules.annotations import LabelMap
from datamodules.datamodule import SegmentationDataModule
from datamodules.dataset import SegmentationDataset
from datamodules.extra_inputs import classes_of
from datamodules.loader import LoaderOptions
from datamodules.proposals import Proposals
from datamodules.shapes.scenes import CLASSES, draw_scene
from datamodules.simulate_boxes import BoxSimulator, to_tags
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import Image, Labels, RandomScaleCropFlip

MIN_AREA = 40  # pixels; smaller visible parts of objects get no click or scribble
SIMULATORS: dict[str, ClickSimulator | BoxSimulator | ScribbleSimulator] = {
    "tags": ClickSimulator(MIN_AREA),
    "clicks": ClickSimulator(MIN_AREA),
    "boxes": BoxSimulator(instances=True),
    "scribbles": ScribbleSimulator(MIN_AREA),
}


@dataclass
class ShapesDataset(SegmentationDataset):
    """One split, drawn on first use.

    Args:
        length: Number of images.
        size: Height and width, pixels.
        supervision: "clicks" (one per visible part of an object and of the background), "scribbles", "boxes" (one per
            object), "tags" (the classes with clicks) or "full".
        seed: Scene i is a function of (seed, i).
    """

    length: int
    size: int
    supervision: str
    seed: int

    @cached_property
    def _scenes(self) -> list[tuple[Image, LabelMap, Labels]]:
        return [self._draw(index) for index in range(self.length)]

    def _draw(self, index: int) -> tuple[Image, LabelMap, Labels]:
        rng = np.random.default_rng([self.seed, index])
        image, mask, instances = draw_scene(self.size, rng)
        if self.supervision == "full":
            return image, mask, mask
        values, first = np.unique(instances, return_index=True)
        classes = dict(zip(values.tolist(), mask.flat[first].tolist(), strict=True))
        labels = SIMULATORS[self.supervision](instances, classes, rng)
        return image, mask, to_tags(classes_of(labels)) if self.supervision == "tags" else labels

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """Return the name of the scene."""
        return f"shapes_{self.seed}_{index:04}"

    def image(self, index: int) -> Image:
        """Return uint8 (size, size, 3), RGB."""
        return self._scenes[index][0]

    def shape(self, index: int) -> tuple[int, int]:
        """Return (size, size)."""
        return self.size, self.size

    def dense_mask(self, index: int) -> LabelMap:
        """Return the dense mask, uint8 (size, size)."""
        return self._scenes[index][1]

    def weak_labels(self, index: int) -> Labels:
        """Return the labels of the chosen supervision."""
        return self._scenes[index][2]


class ShapesDataModule(SegmentationDataModule):
    """The built-in dataset.

    Args:
        supervision: Training labels: "tags", "clicks", "boxes", "scribbles" or "full".
        num_train: Number of training images.
        num_val: Number of validation images.
        size: Height and width of the images, pixels.
        augmentation: See :class:`SegmentationDataModule`, also for the remaining arguments.
    """

    supervisions = (*SIMULATORS, "full")

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
        proposals: Proposals = Proposals(),
    ) -> None:
        super().__init__(supervision, augmentation, stroke_width, loader, seed, proposals)
        self.class_names = ["background", *CLASSES]
        self._train = ShapesDataset(num_train, size, supervision, seed=0)
        self._val = ShapesDataset(num_val, size, supervision, seed=1)

    def train_split(self) -> ShapesDataset:
        """Return scenes with the labels of the chosen supervision."""
        return self._train

    def val_split(self) -> ShapesDataset:
        """Return other scenes with their masks."""
        return self._val
