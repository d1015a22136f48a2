"""Large images that are reduced when they are read, with their labels."""

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, replace

import cv2
import numpy as np

from datamodules.annotations import LabelMap
from datamodules.dataset import SegmentationDataset, check_size
from datamodules.io.errors import InputError
from datamodules.io.images import image_size, read_image
from datamodules.transforms import Image, Labels


def reduced_shape(shape: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return (H, W) of an image whose longest side is reduced to ``max_side`` pixels; ``None`` reduces nothing."""
    factor = 1.0 if max_side is None else min(1.0, max_side / max(shape))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def reduce_image(image: Image, shape: tuple[int, int]) -> Image:
    """Reduce an image to (H, W) by averaging areas; one that is not larger is returned unchanged."""
    if max(image.shape[:2]) <= max(shape):
        return image
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)


@dataclass(frozen=True)
class ReducedDataset(SegmentationDataset):
    """A dataset of image files. A subclass reads labels in pixels of the file, and this class reduces them.

    Args:
        max_side: Reduce larger images and their labels to this longest side, pixels. ``None`` reduces none.

    Raises:
        InputError: ``max_side`` is below 1.
    """

    _: KW_ONLY
    max_side: int | None = None

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise InputError(f"max_side is {self.max_side}; use at least 1 pixel, or null for images as they are.")

    @abstractmethod
    def file_mask(self, index: int) -> LabelMap | None:
        """Return the label map for evaluation at the size of the file, uint8, or ``None`` for an unlabeled image."""

    @abstractmethod
    def file_labels(self, index: int) -> Labels:
        """Return the labels for training in pixels of the file: annotations, or a label map, uint8."""

    def image_version(self) -> str:
        """Return ``max_side``."""
        return "" if self.max_side is None else f"max_side={self.max_side}"

    def file_shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) of the file."""
        width, height = image_size(self.image_file(index))
        return height, width

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) of the reduced image."""
        return reduced_shape(self.file_shape(index), self.max_side)

    def image(self, index: int) -> Image:
        """Return the reduced image."""
        return reduce_image(read_image(self.image_file(index), self.max_side), self.shape(index))

    def dense_mask(self, index: int) -> LabelMap | None:
        """Return the reduced mask, if there is one."""
        mask = self.file_mask(index)
        return None if mask is None else self._reduce(mask, index)

    def weak_labels(self, index: int) -> Labels:
        """Return annotations in pixels of the reduced image, or a reduced label map."""
        labels = self.file_labels(index)
        if not isinstance(labels, list):
            return self._reduce(labels, index)
        if self.max_side is None:
            return labels
        factors = np.array(self.shape(index)[::-1]) / self.file_shape(index)[::-1]  # per axis, as sides are rounded
        return [replace(label, points=label.points * factors) for label in labels]

    def _reduce(self, labels: LabelMap, index: int) -> LabelMap:
        if self.max_side is None or max(labels.shape) <= self.max_side:
            return labels
        check_size(labels, self.file_shape(index), self.name(index))
        size = self.shape(index)[::-1]
        return np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
