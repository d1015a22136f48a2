"""Augmentation: one warp of image, labels and validity."""

from dataclasses import dataclass
from math import floor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.annotations import (
    Annotation,
    LabelMap,
    Matrix,
    drop_outside,
    fractional_indices,
    pixel_centers,
    rasterize,
)
from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX, Sample

Image = NDArray[np.uint8]
Labels = LabelMap | list[Annotation]


@dataclass(frozen=True)
class RandomScaleCropFlip:
    """Random scale, crop and horizontal flip, Sec. 4.1.

    Clicks and scribbles are mapped as coordinates and drawn after the warp: none vanishes, grows or shrinks.

    Args:
        crop: Side of the square output, pixels.
        scale: Bounds of the uniform zoom of the image, as in DeepLab.
        flip: Probability of the horizontal flip.
        window_scale: Draw the inverse of the zoom from ``scale``, as the authors' code does. Images are then reduced
            more often than enlarged.

    Raises:
        InputError: ``crop`` is below 1, or ``scale`` is not positive and in order.
    """

    crop: int
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    window_scale: bool = False

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise InputError(f"crop is {self.crop}; use at least 1 pixel.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale is {self.scale}; use positive bounds of the zoom, the smaller one first.")

    def __call__(
        self, image: Image, labels: Labels, name: str, rng: np.random.Generator, stroke_width: int = 1
    ) -> Sample:
        """Return a random crop. Padding is black, unlabeled and not valid.

        Args:
            image: uint8 (H, W, 3), RGB.
            labels: Annotations in pixels of ``image``, or a label map, uint8 (H, W), warped to the nearest pixel.
            name: Name of the image.
            rng: Source of all randomness.
            stroke_width: Width of clicks and scribbles, pixels of the output, odd.

        Returns:
            Image, target and validity of ``crop`` x ``crop`` pixels.
        """
        height, width = image.shape[:2]
        matrix = self.draw_matrix(height, width, rng)
        centers = _to_indices(matrix)
        rows_read, rows = _along(centers, 1, height, self.crop)
        columns_read, columns = _along(centers, 0, width, self.crop)
        planes = _warp(image, centers, (rows_read, columns_read), self.crop)
        valid = np.zeros((self.crop, self.crop), dtype=np.bool_)
        valid[rows, columns] = True
        padded = rows.stop - rows.start < self.crop or columns.stop - columns.start < self.crop
        if padded:
            planes[:, ~valid] = 0
        if isinstance(labels, list):
            inside = drop_outside(labels, (height, width))
            target = rasterize(inside, valid.shape, stroke_width, matrix)
            if padded:  # strokes are cut at the image border, but a click on the border keeps its center pixel
                clicks = [annotation for annotation in inside if annotation.is_click]
                target = np.where(valid, target, rasterize(clicks, valid.shape, 1, matrix))
        else:
            warped = cv2.warpAffine(labels, centers, valid.shape, flags=cv2.INTER_NEAREST, borderValue=IGNORE_INDEX)
            target = np.asarray(warped, dtype=np.uint8)
        return to_sample(planes, target, valid, name)

    def draw_matrix(self, height: int, width: int, rng: np.random.Generator) -> Matrix:
        """Draw the (3, 3) map from input to output coordinates.

        Along each axis, the crop lies inside the scaled image or, if that is smaller, is centered on it.
        """
        drawn = rng.uniform(*self.scale)
        zoom = 1 / drawn if self.window_scale else drawn
        rooms = (zoom * width - self.crop, zoom * height - self.crop)
        shares = rng.random(2).tolist()
        left, top = (-(share * room if room > 0 else room / 2) for share, room in zip(shares, rooms, strict=True))
        if rng.random() < self.flip:
            return np.array([[-zoom, 0, self.crop - left], [0, zoom, top], [0, 0, 1]])
        return np.array([[zoom, 0, left], [0, zoom, top], [0, 0, 1]])


def to_sample(planes: Image, target: LabelMap, valid: NDArray[np.bool_], name: str) -> Sample:
    """Wrap arrays into a sample without copying. ``planes`` is uint8 (3, H, W), RGB."""
    return Sample(
        image=torch.from_numpy(planes), target=torch.from_numpy(target), valid=torch.from_numpy(valid), name=name
    )


def _to_indices(matrix: Matrix) -> Matrix:
    """Convert a map of coordinates to a (2, 3) map of indices, which OpenCV uses."""
    (scale_x, _, left), (_, scale_y, top) = matrix[:2].tolist()
    return np.array(
        [
            [scale_x, 0, scale_x * pixel_centers(0.0) + fractional_indices(left)],
            [0, scale_y, scale_y * pixel_centers(0.0) + fractional_indices(top)],
        ]
    )


def _along(centers: Matrix, axis: int, side: int, crop: int) -> tuple[slice, slice]:
    """Return the pixels of the image that are read along x (axis 0) or y (axis 1), and the valid pixels of the crop.

    A pixel of the crop is valid if its nearest neighbor lies in the image of ``side`` pixels. OpenCV breaks ties.
    """
    scale, offset = float(centers[axis, axis]), float(centers[axis, 2])
    ends = (-offset / scale, (crop - 1 - offset) / scale)
    first, last = min(ends), max(ends)
    read = slice(min(max(floor(first) - 1, 0), side - 1), min(max(floor(last) + 3, 1), side))
    if first > -0.49 and last < side - 0.51:
        return read, slice(0, crop)
    alone = centers.copy()
    alone[1 - axis, 2] = 0
    shape, size = ((1, side), (crop, 1)) if axis == 0 else ((side, 1), (1, crop))
    line = cv2.warpAffine(np.ones(shape, dtype=np.uint8), alone, size, flags=cv2.INTER_NEAREST)
    start = int(line.argmax())
    return read, slice(start, start + int(np.count_nonzero(line)))


def _warp(image: Image, centers: Matrix, window: tuple[slice, slice], crop: int) -> Image:
    """Return the bilinear crop, uint8 (3, crop, crop). Repeat edge pixels: black would bleed into valid pixels.

    OpenCV warps four channels in half the time of three, to the same values. Only ``window`` is read and converted.
    """
    four = np.empty((*image.shape[:2], 4), dtype=np.uint8)
    cv2.cvtColor(image[window], cv2.COLOR_RGB2RGBA, four[window])
    warped = cv2.warpAffine(four, centers, (crop, crop), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    planes = np.empty((4, crop, crop), dtype=np.uint8)
    cv2.split(warped, list(planes))
    return planes[:3]
