"""The interface of datasets, and their two views: augmented crops for training, whole images for evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.annotations import LabelMap
from datamodules.extra_inputs import ExtraInputs
from datamodules.io.errors import InputError
from datamodules.io.images import image_size, read_image
from datamodules.sample import IGNORE_INDEX, Sample
from datamodules.sampler import Draw
from datamodules.transforms import Image, Labels, RandomScaleCropFlip, to_sample


class SegmentationDataset(ABC):
    """One split: images of any size with their labels.

    To add a dataset, implement the three abstract methods and ``image_file``, and return the dataset from a subclass of
    :class:`~datamodules.datamodule.SegmentationDataModule`. If images are not in files, implement ``name``, ``image``
    and ``shape`` instead of ``image_file``. Methods raise :class:`InputError` for a missing or damaged file.

    Each method is called only when its result is needed: training does not read dense masks.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def dense_mask(self, index: int) -> LabelMap | None:
        """Return the label map for evaluation, uint8 (H, W), or ``None`` for an unlabeled image."""

    @abstractmethod
    def weak_labels(self, index: int) -> Labels:
        """Return the labels for training: annotations in pixels, or a label map, uint8 (H, W)."""

    def hidden(self, index: int) -> NDArray[np.bool_] | None:
        """Return the pixels, bool (H, W), about which the weak labels say nothing. ``None`` is none of them.

        Where an image without boxes is background, they are what is not known to be background.
        """
        return None

    def image_file(self, index: int) -> Path:
        """Return the path of the image."""
        raise InputError(f"{type(self).__name__} has no image files; leave out --data.loader.image_cache.")

    def name(self, index: int) -> str:
        """Return a unique name for messages and predictions. The default is the file name without suffix."""
        return self.image_file(index).stem

    def image(self, index: int) -> Image:
        """Return the image, uint8 (H, W, 3), RGB."""
        return read_image(self.image_file(index))

    def image_version(self) -> str:
        """Return the options that change the pixels of an image. The cache is rebuilt when they change."""
        return ""

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) without decoding the image."""
        width, height = image_size(self.image_file(index))
        return height, width

    def problem(self, index: int, training: bool) -> InputError | None:
        """Read an image and its labels, for training or evaluation, and return the first error."""
        try:
            image = self.image(index)
            labels = self.weak_labels(index) if training else self.dense_mask(index)
            if isinstance(labels, np.ndarray):
                check_size(labels, image.shape, self.name(index))
        except InputError as error:
            return error
        return None


def check_size(labels: LabelMap, size: tuple[int, ...], place: str) -> None:
    """Raise :class:`InputError` if a label map differs from its image in size, (H, W, ...)."""
    if labels.shape != size[:2]:
        sizes = f"labels of (H, W) {labels.shape}, but an image of {size[:2]}"
        raise InputError(f"{place} has {sizes}; export the labels at that size.", "size differs", place)


@dataclass(frozen=True)
class AugmentedCrops(Dataset[Sample]):
    """Augmented crops for training. Each item is determined by the image and (seed, epoch, position).

    Args:
        dataset: Images with labels for training.
        augmentation: Makes the crop.
        seed: Seed of the augmentation.
        stroke_width: Width of clicks and scribbles, pixels of the crop.
        proposals: Returns the label map of an image, by index, in a batch; used instead of the labels of ``dataset``.
        extra_inputs: Optional fields of the sample.
    """

    dataset: SegmentationDataset
    augmentation: RandomScaleCropFlip
    seed: int
    stroke_width: int = 1
    proposals: Callable[[int, int], LabelMap] | None = None
    extra_inputs: ExtraInputs | None = None

    def __getitem__(self, draw: Draw) -> Sample:
        """Return an augmented crop of image ``draw.image``."""
        index, dataset = draw.image, self.dataset
        image, name = dataset.image(index), dataset.name(index)
        labels = dataset.weak_labels(index) if self.proposals is None else self.proposals(index, draw.batch)

        def warp(image: Image, labels: Labels) -> Sample:
            rng = np.random.default_rng([self.seed, draw.epoch, draw.position])
            return self.augmentation(image, labels, name, rng, self.stroke_width)

        sample = warp(image, labels)
        if self.extra_inputs is not None:
            self.extra_inputs.add(sample, image, labels, warp)
        return sample


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
        check_size(mask, image.shape, self.dataset.name(index))
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        return to_sample(planes, mask, np.ones(mask.shape, dtype=bool), self.dataset.name(index))
