"""Weak labels as vectors, and their rasterization.

Coordinates are continuous: an image spans [0, W] x [0, H], and the center of its first pixel is (0.5, 0.5). Indices
are those of NumPy, OpenCV and Matplotlib: the center of the first pixel is (0, 0).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX

Points = NDArray[np.float64]
Matrix = NDArray[np.float64]
LabelMap = NDArray[np.uint8]
Coordinates = TypeVar("Coordinates", float, Points)

_IDENTITY = np.eye(3).tolist()
_FAR = 1e6  # pixels; OpenCV's integers cannot hold larger coordinates


def pixel_centers(indices: Coordinates) -> Coordinates:
    """Convert indices to continuous coordinates: index 0 is the center of the first pixel, 0.5."""
    return indices + 0.5


def fractional_indices(points: Coordinates) -> Coordinates:
    """Convert continuous coordinates to indices without rounding: the inverse of :func:`pixel_centers`."""
    return points - 0.5


def pixel_indices(points: Points) -> Points:
    """Return the indices, float64, of the pixels that contain the points."""
    return np.floor(points)


@dataclass(frozen=True)
class Annotation:
    """A click (one point), a scribble (an open polyline) or a tag (no point): the class is somewhere in the image.

    Args:
        label: Class index.
        points: (K, 2), x to the right and y down, pixels; K = 1 is a click, K = 0 a tag.
        rank: Place of a click in the order in which the objects of an image were clicked, 0 is the first.
    """

    label: int
    points: Points
    rank: int = 0

    @property
    def is_click(self) -> bool:
        """Whether this is a single point."""
        return len(self.points) == 1


class Box(Annotation):
    """A bounding box. ``points`` are its upper left and its lower right corner, (2, 2).

    It labels no pixels itself: a :class:`~datamodules.proposals.LabelGenerator` does.
    """


def rasterize(
    annotations: Sequence[Annotation], size: tuple[int, int], stroke_width: int = 1, matrix: Matrix | None = None
) -> LabelMap:
    """Draw annotations in order, later ones on top.

    A click sets exactly ``stroke_width`` x ``stroke_width`` pixels around the pixel that contains it. A scribble is a
    one-pixel line dilated by a square of that side: ``stroke_width`` pixels wide if it is parallel to an axis, and up
    to 1.2 times as wide if it is slanted.

    Args:
        annotations: Clicks and scribbles. Parts outside the image are not drawn. Boxes and tags label no pixels.
        size: (H, W) of the output, pixels.
        stroke_width: Odd, pixels of the output.
        matrix: (3, 3), scale and translation from the annotations to the output; ``None`` is the identity. Clicks are
            mapped at the center of their pixel, so a flip mirrors them exactly.

    Returns:
        uint8 (H, W), class index or IGNORE_INDEX.

    Raises:
        InputError: ``stroke_width`` is not odd and positive.
    """
    check_stroke_width(stroke_width)
    (scale_x, _, left), (_, scale_y, top), _ = _IDENTITY if matrix is None else matrix.tolist()
    labels = np.full(size, IGNORE_INDEX, dtype=np.uint8)
    reach = stroke_width // 2
    for annotation in annotations:
        if annotation.is_click:  # plain floats are ten times as fast as NumPy for a single point
            x, y = annotation.points[0].tolist()
            x0 = floor(scale_x * pixel_centers(floor(x)) + left) - reach
            y0 = floor(scale_y * pixel_centers(floor(y)) + top) - reach
            x1, y1 = x0 + stroke_width, y0 + stroke_width
            labels[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = annotation.label
        elif len(annotation.points) and not isinstance(annotation, Box):
            _draw_scribble(labels, annotation.points * (scale_x, scale_y) + (left, top), annotation.label, reach)
    return labels


def _draw_scribble(labels: LabelMap, points: Points, label: int, reach: int) -> None:
    pixels = pixel_indices(np.clip(points, -_FAR, _FAR)).astype(np.int32)
    width_height = labels.shape[::-1]
    x0, y0 = np.clip(pixels.min(0) - reach, 0, width_height)
    x1, y1 = np.clip(pixels.max(0) + reach + 1, 0, width_height)
    if x0 >= x1 or y0 >= y1:
        return
    # OpenCV paints 5 pixels for thickness=3, hence a thin line and a dilation; the margin keeps lines outside in reach
    canvas = np.zeros((y1 - y0 + 2 * reach, x1 - x0 + 2 * reach), dtype=np.uint8)
    cv2.polylines(canvas, [pixels - [x0 - reach, y0 - reach]], isClosed=False, color=1)
    stroke = cv2.dilate(canvas, np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8))
    inside = stroke[reach : reach + y1 - y0, reach : reach + x1 - x0].astype(bool)
    labels[y0:y1, x0:x1][inside] = label


def check_stroke_width(stroke_width: int) -> None:
    """Raise :class:`InputError` if ``stroke_width`` is not odd and positive."""
    if stroke_width < 1 or stroke_width % 2 == 0:
        raise InputError(f"stroke_width is {stroke_width}; use an odd number of pixels: 1, 3, 5, ...")


def drop_outside(annotations: Sequence[Annotation], size: Sequence[int]) -> list[Annotation]:
    """Drop clicks outside an image of ``size`` (H, W, ...); published files contain some. Other labels are kept."""

    def inside(x: float, y: float) -> bool:
        return 0 <= x < size[1] and 0 <= y < size[0]

    return [each for each in annotations if not each.is_click or inside(*each.points[0].tolist())]


def to_json(annotations: Sequence[Annotation]) -> list[Any]:
    """Return plain data: ``{"class": 1, "points": [[x, y], ...]}``, ``{"class": 1, "box": [x0, y0, x1, y1]}`` or 1.

    A click that is not the first has a "rank" too. A plain number is a tag.
    """
    return [_to_json(annotation) for annotation in annotations]


def _to_json(annotation: Annotation) -> Any:
    if isinstance(annotation, Box):
        return {"class": annotation.label, "box": annotation.points.ravel().tolist()}
    if len(annotation.points) == 0:
        return annotation.label
    rank = {"rank": annotation.rank} if annotation.rank else {}
    return {"class": annotation.label, "points": annotation.points.tolist(), **rank}


def from_json(items: Sequence[Any]) -> list[Annotation]:
    """Convert the output of :func:`to_json` back to annotations.

    Raises:
        InputError: An item is of none of these forms, its points are not finite (x, y) pairs, or a box is empty.
    """
    return [_from_json(item) for item in items]


def _from_json(item: Any) -> Annotation:
    if isinstance(item, int) and not isinstance(item, bool):
        return Annotation(item, np.empty((0, 2)))
    try:
        label, rank, is_box = _whole(item["class"]), _whole(item.get("rank", 0)), "box" in item
        points = np.asarray(item["box"] if is_box else item["points"], dtype=np.float64)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        form = '{"class": 1, "points": [[x, y], ...]} or {"class": 1, "box": [x0, y0, x1, y1]}, with the class as index'
        raise InputError(f"{item!r} is not an annotation; write {form}.") from error
    if is_box:
        if points.shape != (4,) or not np.isfinite(points).all() or not (points[:2] < points[2:]).all():
            raise InputError(f"{item!r} is not a box; write corners [x0, y0, x1, y1] with x0 < x1 and y0 < y1.")
        return Box(label, points.reshape(2, 2))
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"{item!r} has points that are not finite [x, y] pairs.")
    return Annotation(label, points, rank)


def _whole(value: Any) -> int:
    """Convert a number, or its text, to an integer. Raise ValueError for a fraction and TypeError for a truth value."""
    if isinstance(value, bool):
        raise TypeError(value)
    if isinstance(value, float) and value != int(value):
        raise ValueError(value)
    return int(value)
