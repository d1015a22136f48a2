"""Label maps from boxes alone, Khoreva et al., "Simple Does It", CVPR 2017, Sec. 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Box, LabelMap, Points
from datamodules.io.errors import InputError
from datamodules.proposals.generator import LabelGenerator
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

BACKGROUND = 0
Region = tuple[slice, slice]
"""Rows and columns of an image."""


@dataclass(frozen=True)
class BoxLabels(LabelGenerator):
    """Box: all pixels of a box have its class. Smaller boxes lie on top of larger ones; the rest is background."""

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        """Return the label map; see :class:`LabelGenerator`."""
        drawn = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
        for label, region in largest_first(labels, drawn.shape):
            drawn[region] = label
        return drawn


@dataclass(frozen=True)
class BoxInnerLabels(LabelGenerator):
    """Box_i: as :class:`BoxLabels`, but only the inner part of a box is labeled, and the rest of it is not.

    Args:
        share: Area of the inner part relative to the box, in (0, 1]. It has the center and the proportions of the box.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share is {self.share}; the inner part of a box must be in (0, 1].")

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        """Return the label map; see :class:`LabelGenerator`."""
        drawn = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
        for box in sorted(boxes_of(labels), key=_area, reverse=True):
            center = box.points.mean(0)
            drawn[region_of(box.points, drawn.shape)] = IGNORE_INDEX
            drawn[region_of(center + sqrt(self.share) * (box.points - center), drawn.shape)] = box.label
        return drawn


def largest_first(labels: Sequence[Annotation], size: Sequence[int]) -> list[tuple[int, Region]]:
    """Return the class and the pixels of each box that has any in an image of ``size`` (H, W), largest first."""
    found = [(box.label, region_of(box.points, size)) for box in sorted(boxes_of(labels), key=_area, reverse=True)]
    return [(label, region) for label, region in found if all(side.stop > side.start for side in region)]


def boxes_of(labels: Sequence[Annotation]) -> list[Box]:
    """Return annotations that are all boxes.

    Raises:
        InputError: One is not a box.
    """
    boxes = [label for label in labels if isinstance(label, Box)]
    if len(boxes) < len(labels):
        raise InputError("These label maps are made from boxes; choose --data.supervision=boxes.")
    return boxes


def region_of(corners: Points, size: Sequence[int]) -> Region:
    """Return the pixels whose center is in a box, cut at the image of ``size`` (H, W).

    A box without any, which is smaller than a pixel, gets the pixel that contains its center.

    Args:
        corners: Upper left and lower right corner, (2, 2), x before y.
        size: (H, W).
    """
    sides = []
    for low, high, length in zip(corners[0, ::-1].tolist(), corners[1, ::-1].tolist(), size, strict=False):
        start, stop = ceil(low - 0.5), ceil(high - 0.5)
        if start == stop:
            start = int((low + high) // 2)
            stop = start + 1
        sides.append(slice(min(max(start, 0), length), min(max(stop, 0), length)))
    return sides[0], sides[1]


def _area(box: Box) -> float:
    return float(np.prod(box.points[1] - box.points[0]))
