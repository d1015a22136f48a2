"""What every dataset offers, and the two views of it that loaders read: augmented crops and whole images."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from datamodules.annotations import LabelMap
from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX, Sample
from datamodules.sampler import Draw
from datamodules.transforms import Image, Labels, RandomScaleCropFlip, to_sample


class SegmentationDataset(ABC):
    """One split at its own resolution. Each part of an item is read only when asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Identify the image in messages and in files of predictions."""

    @abstractmethod
    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB."""

    @abstractmethod
    def dense_mask(self, index: int) -> LabelMap | None:
        """Return the dense truth, uint8 (H, W), class index or IGNORE_INDEX; ``None`` where there is none."""

    @abstractmethod
    def weak_labels(self, index: int) -> Labels:
        """Return what training may see: vectors, or a label map, uint8 (H, W)."""

    def image_file(self, index: int) -> Path | None:
        """Return the file that the image is decoded from; ``None`` where there is none, and nothing to cache."""
        return None

    def image_version(self) -> str:
        """Return what besides its file decides the pixels of an image; when it changes, a cache is built anew."""
        return ""

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) of the image; datasets that know it without decoding the image say so."""
        height, width = self.image(index).shape[:2]
        return height, width

    def problem(self, index: int, training: bool) -> InputError | None:
        """Read everything about one image and return what is wrong with it.

        Args:
            index: Of the image.
            training: Read what training sees instead of the dense truth.
        """
        try:
            size = self.image(index).shape[:2]
            labels = self.weak_labels(index) if training else self.dense_mask(index)
        except InputError as error:
            return error
        if isinstance(labels, np.ndarray) and labels.shape != size:
            return InputError(
                f"The labels of {self.name(index)} are {labels.shape[1]} x {labels.shape[0]} but its image is "
                f"{size[1]} x {size[0]}; export them at the size of the image.",
                "size differs",
                self.name(index),
            )
        return None


class AugmentedCrops(Dataset[Sample]):
    """Training view: the item of a :class:`Draw` is a function of (seed, epoch, position) and of nothing else.

    Args:
        dataset: Images and their labels.
        augmentation: Makes a crop.
        seed: Base of every random number.
        stroke_width: Width of clicks and strokes, pixels of the crop.
    """

    def __init__(
        self, dataset: SegmentationDataset, augmentation: RandomScaleCropFlip, seed: int, stroke_width: int = 1
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.stroke_width = stroke_width

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the augmented crop that ``draw`` stands for."""
        rng = np.random.default_rng([self.seed, draw.epoch, draw.position])
        index = draw.image
        image, labels, name = self.dataset.image(index), self.dataset.weak_labels(index), self.dataset.name(index)
        return self.augmentation(image, labels, name, rng, self.stroke_width)


class WholeImages(Dataset[Sample]):
    """Evaluation view: whole images with dense truth.

    Args:
        dataset: Images and their masks; without a mask every target pixel is IGNORE_INDEX.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Return image ``index`` in full, all of it valid."""
        image, mask = self.dataset.image(index), self.dataset.dense_mask(index)
        if mask is None:
            mask = np.full(image.shape[:2], IGNORE_INDEX, dtype=np.uint8)
        return to_sample(image, mask, np.ones(mask.shape, dtype=bool), self.dataset.name(index))
