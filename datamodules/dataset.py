"""The interface of a dataset, and its two views: augmented crops for training and whole images for evaluation."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from datamodules.annotations import LabelMap
from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX, Sample
from datamodules.sampler import Draw
from datamodules.transforms import Image, Labels, RandomScaleCropFlip, to_sample


class SegmentationDataset(ABC):
    """One split: images with their labels, at their own size.

    To add a dataset, write a subclass with the five abstract methods, and a subclass of
    :class:`~datamodules.datamodule.SegmentationDataModule` that returns it from ``train_split`` and ``val_split``. The
    other methods have defaults; override them to be faster or to name files in messages. Methods raise
    :class:`InputError` for a file that is missing or damaged.

    Each method is called only when its result is needed: training does not read dense masks.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return a unique name, used in messages and as file name of the prediction."""

    @abstractmethod
    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB."""

    @abstractmethod
    def dense_mask(self, index: int) -> LabelMap | None:
        """Return class index or IGNORE_INDEX, uint8 (H, W), for evaluation; ``None`` for an unlabeled image."""

    @abstractmethod
    def weak_labels(self, index: int) -> Labels:
        """Return the labels for training: a list of annotations in pixels, or a label map, uint8 (H, W)."""

    def image_file(self, index: int) -> Path | None:
        """Return the file that the image is decoded from; ``None`` if the image cannot be cached."""
        return None

    def image_version(self) -> str:
        """Return the options that change the pixels of an image. The cache is rebuilt when they change."""
        return ""

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W). Override this to avoid decoding the image."""
        height, width = self.image(index).shape[:2]
        return height, width

    def problem(self, index: int, training: bool) -> InputError | None:
        """Read everything about one image and return the first error.

        Args:
            index: Index of the image.
            training: Read the labels for training instead of the dense mask.
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


@dataclass(frozen=True)
class AugmentedCrops(Dataset[Sample]):
    """Training view. An item is a function of the image and of (seed, epoch, position).

    Args:
        dataset: Images with labels for training.
        augmentation: Makes a crop of an image and its labels.
        seed: Seed of the augmentation.
        stroke_width: Width of clicks and scribbles, pixels of the crop.
    """

    dataset: SegmentationDataset
    augmentation: RandomScaleCropFlip
    seed: int
    stroke_width: int = 1

    def __getitem__(self, draw: Draw) -> Sample:
        """Return an augmented crop of image ``draw.image``."""
        rng = np.random.default_rng([self.seed, draw.epoch, draw.position])
        index = draw.image
        image, labels, name = self.dataset.image(index), self.dataset.weak_labels(index), self.dataset.name(index)
        return self.augmentation(image, labels, name, rng, self.stroke_width)


@dataclass(frozen=True)
class WholeImages(Dataset[Sample]):
    """Evaluation view: whole images with dense masks.

    Args:
        dataset: Images with dense masks. Without a mask, every target pixel is IGNORE_INDEX.
    """

    dataset: SegmentationDataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Return image ``index``; all of its pixels are valid."""
        image, mask = self.dataset.image(index), self.dataset.dense_mask(index)
        if mask is None:
            mask = np.full(image.shape[:2], IGNORE_INDEX, dtype=np.uint8)
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        return to_sample(planes, mask, np.ones(mask.shape, dtype=bool), self.dataset.name(index))
