"""What every dataset offers, and the two views of it that loaders read: augmented crops and whole images."""

from abc import ABC, abstractmethod

import numpy as np
from torch.utils.data import Dataset

from datamodules.annotations import LabelMap
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
    def mask(self, index: int) -> LabelMap | None:
        """Return the dense truth, uint8 (H, W), class index or IGNORE_INDEX; ``None`` where there is none."""

    @abstractmethod
    def labels(self, index: int) -> Labels:
        """Return what training may see: vectors, or a label map, uint8 (H, W)."""


class AugmentedCrops(Dataset[Sample]):
    """Training view: the item of a :class:`Draw` is a function of (seed, epoch, position) and of nothing else.

    Args:
        dataset: Images and their labels.
        transform: The augmentation.
        seed: Base of every random number.
    """

    def __init__(self, dataset: SegmentationDataset, transform: RandomScaleCropFlip, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the augmented crop that ``draw`` stands for."""
        rng = np.random.default_rng([self.seed, draw.epoch, draw.position])
        index = draw.image
        return self.transform(self.dataset.image(index), self.dataset.labels(index), self.dataset.name(index), rng)


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
        image, mask = self.dataset.image(index), self.dataset.mask(index)
        if mask is None:
            mask = np.full(image.shape[:2], IGNORE_INDEX, dtype=np.uint8)
        return to_sample(image, mask, np.ones(mask.shape, dtype=bool), self.dataset.name(index))
