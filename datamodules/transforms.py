"""Augmentation: image, labels, validity and vectors moved by one warp."""

from dataclasses import dataclass
from math import floor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap, drop_outside, rasterize
from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX, Sample

Image = NDArray[np.uint8]
Labels = LabelMap | list[Annotation]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class RandomScaleCropFlip:
    """Random scale, crop and horizontal flip, Sec. 4.1.

    Vectors are moved as coordinates and drawn after the warp, so that no click vanishes, grows or shrinks.

    Args:
        crop: Side of the square output, pixels.
        scale: Bounds of the uniform zoom of the image, as in DeepLab.
        flip: Probability of the horizontal flip.
        window_scale: Draw ``scale`` as the size of the window in the image over the crop, as the authors' code does,
            instead of its inverse, the zoom: images are then reduced more often than enlarged.

    Raises:
        InputError: A crop below 1, bounds of the zoom that are not positive and in order.
    """

    crop: int
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    window_scale: bool = False

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise InputError(f"crop is {self.crop}; it needs at least 1 pixel.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale is {self.scale}; give the least and the greatest zoom, both positive.")

    def __call__(
        self, image: Image, labels: Labels, name: str, rng: np.random.Generator, stroke_width: int = 1
    ) -> Sample:
        """Return a sample of ``crop`` x ``crop`` pixels; padding is black, unlabeled and not valid.

        Args:
            image: uint8 (H, W, 3), RGB.
            labels: Vectors in pixels of ``image``, or a map, uint8 (H, W), warped to the nearest pixel.
            name: Passed on.
            rng: Source of all randomness.
            stroke_width: Width of clicks and strokes, pixels of the output, odd.
        """
        height, width = image.shape[:2]
        matrix = self.draw_matrix(height, width, rng)
        centers = _between_centers(matrix)
        rows_read, rows = _along(centers, 1, height, self.crop)
        columns_read, columns = _along(centers, 0, width, self.crop)
        planes = _warp(image, centers, (rows_read, columns_read), self.crop)
        valid = np.ones((self.crop, self.crop), dtype=np.bool_)
        padded = rows.stop - rows.start < self.crop or columns.stop - columns.start < self.crop
        if padded:
            valid[: rows.start] = valid[rows.stop :] = False
            valid[:, : columns.start] = valid[:, columns.stop :] = False
            planes[:, ~valid] = 0
        if isinstance(labels, list):
            target = self._draw_vectors(labels, matrix, (height, width), valid if padded else None, stroke_width)
        else:
            warped = cv2.warpAffine(labels, centers, valid.shape, flags=cv2.INTER_NEAREST, borderValue=IGNORE_INDEX)
            target = np.asarray(warped, dtype=np.uint8)
        return _from_planes(planes, target, valid, name)

    def draw_matrix(self, height: int, width: int, rng: np.random.Generator) -> Matrix:
        """Draw the 3 x 3 map from continuous input to output coordinates.

        The crop lies inside the scaled image where it fits, and the image is centered in the crop where it does not.
        """
        drawn = rng.uniform(*self.scale)
        zoom = 1 / drawn if self.window_scale else drawn
        rooms = (zoom * width - self.crop, zoom * height - self.crop)
        shares = rng.random(2).tolist()
        left, top = (-(share * room if room > 0 else room / 2) for share, room in zip(shares, rooms, strict=True))
        if rng.random() < self.flip:
            return np.array([[-zoom, 0, self.crop - left], [0, zoom, top], [0, 0, 1]])
        return np.array([[zoom, 0, left], [0, zoom, top], [0, 0, 1]])

    def _draw_vectors(
        self,
        annotations: list[Annotation],
        matrix: Matrix,
        size: tuple[int, int],
        valid: NDArray[np.bool_] | None,
        stroke_width: int,
    ) -> LabelMap:
        """Move the vectors of an image of ``size`` (H, W), and draw them where the crop is valid."""
        clicks = _move_clicks(annotations, matrix, size)
        if all(a.is_click for a in annotations):
            target = _draw_clicks(clicks, self.crop, stroke_width)
        else:
            moved = [_move(a, matrix) for a in drop_outside(annotations, size)]
            target = rasterize(moved, (self.crop, self.crop), stroke_width)
        if valid is None:
            return target
        return np.where(valid, target, _draw_clicks(clicks, self.crop, 1))  # one on the border keeps its own pixel


def to_sample(image: Image, target: LabelMap, valid: NDArray[np.bool_], name: str) -> Sample:
    """Turn arrays into a sample, without a copy where the layout allows.

    Args:
        image: uint8 (H, W, 3), RGB.
        target: uint8 (H, W).
        valid: bool (H, W).
        name: Passed on.
    """
    return _from_planes(np.ascontiguousarray(image.transpose(2, 0, 1)), target, valid, name)


def _from_planes(planes: Image, target: LabelMap, valid: NDArray[np.bool_], name: str) -> Sample:
    return Sample(
        image=torch.from_numpy(planes), target=torch.from_numpy(target), valid=torch.from_numpy(valid), name=name
    )


def _between_centers(matrix: Matrix) -> Matrix:
    """Return the 2 x 3 map for OpenCV, which puts the centers of pixels at integers."""
    (scale_x, _, left), (_, scale_y, top) = matrix[:2].tolist()
    return np.array([[scale_x, 0, scale_x / 2 + (left - 0.5)], [0, scale_y, scale_y / 2 + (top - 0.5)]])


def _along(centers: Matrix, axis: int, side: int, crop: int) -> tuple[slice, slice]:
    """Return which of ``side`` pixels are read along x (axis 0) or y, and which of ``crop`` pixels lie in the image.

    A pixel of the crop does if the nearest pixel is one of the image, and ties are left to OpenCV.
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
    """Return the bilinear crop, uint8 (3, crop, crop). The border is repeated, or black would bleed into valid pixels.

    OpenCV warps four channels in half the time of three, to the same values; only what is read is turned into four.
    """
    four = np.empty((*image.shape[:2], 4), dtype=np.uint8)
    cv2.cvtColor(image[window], cv2.COLOR_RGB2RGBA, four[window])
    warped = cv2.warpAffine(four, centers, (crop, crop), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    planes = np.empty((4, crop, crop), dtype=np.uint8)
    cv2.split(warped, list(planes))
    return planes[:3]


def _move(annotation: Annotation, matrix: Matrix) -> Annotation:
    points = annotation.points
    if annotation.is_click:
        points = np.floor(points) + 0.5  # a click stands for its pixel, whose center moves, mirrored exactly by a flip
    return Annotation(annotation.label, points @ matrix[:2, :2].T + matrix[:2, 2])


def _move_clicks(
    annotations: list[Annotation], matrix: Matrix, size: tuple[int, int]
) -> list[tuple[int, float, float]]:
    """Do the same to the clicks in an image of ``size`` (H, W) alone; return class, x and y of each."""
    (scale_x, _, left), (_, scale_y, top) = matrix[:2].tolist()
    moved = []
    for annotation in annotations:
        if annotation.is_click:
            x, y = annotation.points[0].tolist()
            if 0 <= x < size[1] and 0 <= y < size[0]:
                moved.append((annotation.label, (floor(x) + 0.5) * scale_x + left, (floor(y) + 0.5) * scale_y + top))
    return moved


def _draw_clicks(clicks: list[tuple[int, float, float]], crop: int, width: int) -> LabelMap:
    """Do what ``rasterize`` does to clicks, in a tenth of its time."""
    labels = np.full((crop, crop), IGNORE_INDEX, dtype=np.uint8)
    reach = width // 2
    for label, x, y in clicks:
        column, row = floor(x), floor(y)
        rows, columns = (slice(max(0, place - reach), max(0, place + reach + 1)) for place in (row, column))
        labels[rows, columns] = label
    return labels
