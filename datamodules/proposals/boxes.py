"""Proposals from bounding boxes alone: "Box" and "Box_i" of Khoreva et al., "Simple Does It", CVPR 2017, Sec. 3.1."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Box, LabelMap, Points, fractional_indices
from datamodules.io.errors import InputError
from datamodules.proposals.generator import LabelGenerator
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

BACKGROUND = 0

Window = tuple[slice, slice]


def pixels_in(points: Points, size: Sequence[int]) -> Window:
    """Return the rows and columns of the pixels whose centers lie in a box, as slices of the image.

    A center on the left or upper side belongs to the box, one on the right or lower side does not. So a box with
    integer corners has exactly its area in pixels, and boxes that share a side share no pixel. A box that contains no
    center, because it is narrower than a pixel, has the row or column that contains its middle instead. Outside the
    image there are no pixels: the slices may be empty.

    Args:
        points: (2, 2), upper left and lower right corner, pixels.
        size: (H, W, ...) of the image.
    """
    (x0, y0), (x1, y1) = points.tolist()
    return _centers_between(y0, y1, size[0]), _centers_between(x0, x1, size[1])


def _centers_between(low: float, high: float, length: int) -> slice:
    start, stop = ceil(fractional_indices(low)), ceil(fractional_indices(high))
    if start >= stop:
        start = floor((low + high) / 2)
        stop = start + 1
    return slice(min(max(start, 0), length), min(max(stop, 0), length))


def largest_first(labels: Sequence[Annotation]) -> list[Box]:
    """Return the boxes by decreasing area. Drawn in this order, the smaller of two boxes is in front.

    Of boxes with the same area, the later one is in front.
    """
    boxes = [each for each in labels if isinstance(each, Box)]
    return sorted(boxes, key=lambda box: -float(np.prod(box.points[1] - box.points[0])))


def check_share(name: str, value: float) -> None:
    """Raise :class:`InputError` if ``value`` is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}; use a share in [0, 1].")


@dataclass(frozen=True)
class BoxLabels(LabelGenerator):
    """All pixels of a box get its class, all others are background.

    If boxes overlap, the smaller one is in front. Clicks, scribbles and tags are not used.
    """

    supervisions = ("boxes",)

    def __call__(
        self,
        image: Image,
        labels: list[Annotation],
        probs: NDArray[np.float32] | None,
        rng: np.random.Generator,
    ) -> LabelMap:
        """Return uint8 (H, W), class index."""
        proposal = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
        for box in largest_first(labels):
            proposal[pixels_in(box.points, image.shape)] = box.label
        return proposal


@dataclass(frozen=True)
class BoxInnerLabels(LabelGenerator):
    """The middle of a box gets its class, the rest of the box is unlabeled, and all other pixels are background.

    The middle is a rectangle of the same proportions. The middle and the rest of a smaller box are both in front of a
    larger box. Clicks, scribbles and tags are not used.

    Args:
        share: Share of the box's area that gets the class.
    """

    supervisions = ("boxes",)

    share: float = 0.2

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def __call__(
        self,
        image: Image,
        labels: list[Annotation],
        probs: NDArray[np.float32] | None,
        rng: np.random.Generator,
    ) -> LabelMap:
        """Return uint8 (H, W), class index or 255."""
        proposal = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
        for box in largest_first(labels):
            middle = box.points.mean(0)
            inner = middle + np.sqrt(self.share) * (box.points - middle)
            proposal[pixels_in(box.points, image.shape)] = IGNORE_INDEX
            proposal[pixels_in(inner, image.shape)] = box.label
        return proposal
