"""Weak labels as vectors, and how they become pixels.

Coordinates are continuous: the image spans [0, W] x [0, H] and the center of its first pixel is (0.5, 0.5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX

Points = NDArray[np.float64]
LabelMap = NDArray[np.uint8]

_FAR = 1e6  # pixels; clips a stray coordinate to what OpenCV's integers hold


@dataclass(frozen=True)
class Annotation:
    """A click (one point) or a scribble (an open polyline).

    Args:
        label: Class index.
        points: (K, 2), x to the right and y down, pixels; K = 1 is a click.
    """

    label: int
    points: Points

    @property
    def is_click(self) -> bool:
        """Whether this is a single point."""
        return len(self.points) == 1


def rasterize(annotations: Sequence[Annotation], size: tuple[int, int], stroke_width: int = 1) -> LabelMap:
    """Draw annotations in order, later ones on top.

    A click sets exactly ``stroke_width`` x ``stroke_width`` pixels around the pixel that contains it. A scribble is a
    one-pixel line dilated by a square of that side: exactly ``stroke_width`` pixels wide along the axes, and up to
    sqrt(13) / 3 = 1.2 times that across a slant.

    Args:
        annotations: What to draw; parts outside the image are not drawn.
        size: (H, W), pixels.
        stroke_width: 1 or 3, pixels of this grid.

    Returns:
        uint8 (H, W), class index or IGNORE_INDEX.

    Raises:
        InputError: A width that is not odd and positive.
    """
    check_stroke_width(stroke_width)
    labels = np.full(size, IGNORE_INDEX, dtype=np.uint8)
    reach = stroke_width // 2
    for annotation in annotations:
        pixels = np.floor(np.clip(annotation.points, -_FAR, _FAR)).astype(np.int32)
        low, high = pixels.min(0) - reach, pixels.max(0) + reach + 1
        (x0, y0), (x1, y1) = np.clip(low, 0, size[::-1]), np.clip(high, 0, size[::-1])
        if x0 >= x1 or y0 >= y1:
            continue
        if annotation.is_click:
            labels[y0:y1, x0:x1] = annotation.label
            continue
        # cv2 paints 5 pixels for thickness=3, hence a thin line and a dilation; the margin keeps what reaches in
        canvas = np.zeros((y1 - y0 + 2 * reach, x1 - x0 + 2 * reach), dtype=np.uint8)
        cv2.polylines(canvas, [pixels - [x0 - reach, y0 - reach]], isClosed=False, color=1)
        stroke = cv2.dilate(canvas, np.ones((stroke_width, stroke_width), dtype=np.uint8))
        inside = stroke[reach : reach + y1 - y0, reach : reach + x1 - x0].astype(bool)
        labels[y0:y1, x0:x1][inside] = annotation.label
    return labels


def check_stroke_width(stroke_width: int) -> None:
    """Raise ``InputError`` for a width that is not odd and positive."""
    if stroke_width < 1 or stroke_width % 2 == 0:
        raise InputError(f"stroke_width is {stroke_width}; a stroke centered on its line is 1, 3, 5, ... pixels wide.")


def drop_outside(annotations: Sequence[Annotation], size: Sequence[int]) -> list[Annotation]:
    """Leave out clicks that lie outside an image of ``size`` (H, W, ...); published files hold some. Scribbles stay."""
    extent = np.array([size[1], size[0]])
    return [a for a in annotations if not a.is_click or bool(((a.points >= 0) & (a.points < extent)).all())]


def to_json(annotations: Sequence[Annotation]) -> list[dict[str, Any]]:
    """Return plain data: ``[{"class": 1, "points": [[x, y], ...]}, ...]``."""
    return [{"class": a.label, "points": a.points.tolist()} for a in annotations]


def from_json(items: Sequence[Mapping[str, Any]]) -> list[Annotation]:
    """Read what :func:`to_json` writes.

    Raises:
        InputError: An item without "class" and "points", or whose points are not finite (x, y) pairs.
    """
    annotations = []
    for item in items:
        try:
            label, points = int(item["class"]), np.asarray(item["points"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f'{item!r} is no annotation; write {{"class": 1, "points": [[x, y], ...]}}.') from error
        if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
            raise InputError(f"{item!r} has points that are not finite [x, y] pairs.")
        annotations.append(Annotation(label, points))
    return annotations
