"""Coordinates that cannot be meant, and coordinates that are doubtful, in labels that people draw."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Box, Points
from datamodules.io.errors import InputError

MANY = 12  # points, too many to be all in one corner by chance
CORNER = 0.6  # of width and height
SWAPPED = 0.1  # of the points are outside if x and y are swapped, on images that are not nearly square
ELSEWHERE = 0.5  # of the labels outside their image cannot be slips
SAME_PLACE = 0.005  # of the longer side of the image, and at least a diagonal neighbor
RARE = 0.1  # of the crops with a click
SHOWN = 3  # examples per message


class Labeled(NamedTuple):
    """An image with its labels."""

    name: str
    labels: list[Annotation]
    size: tuple[int, int]  # (H, W), pixels of the coordinates


def find_misplaced(images: Sequence[Labeled], source: str) -> Iterator[InputError]:
    """Yield an error if the coordinates of a file are fractions, swapped, or of other images.

    Args:
        images: Labeled images.
        source: The file, for the message.
    """
    if not (used := [(image, _points(image.labels)) for image in images if len(_points(image.labels))]):
        return
    points = np.concatenate([each for _, each in used])
    sizes = np.concatenate([np.repeat([image.size[::-1]], len(each), axis=0) for image, each in used])  # (W, H)
    outside, swapped = (_beyond(xy, sizes).mean() for xy in (points, points[:, ::-1]))
    labels = [(image, label) for image in images for label in image.labels if len(label.points)]
    away = [(image, label) for image, label in labels if _is_outside(label, image.size)]
    if len(points) > 1 and (points >= 0).all() and (points <= 1).all() and (sizes > 2).all():
        remedy = "write pixels: x times the width, y times the height"
        yield InputError(f"All points of {source} lie in [0, 1]; {remedy}.", "coordinates", source)
    elif outside >= SWAPPED and swapped == 0:
        share = (
            f"{outside:.0%} of the points of {source} lie outside their images, and none does if x and y are swapped"
        )
        remedy = "write [x, y]: pixels to the right, then pixels down, in the image as its EXIF orientation shows it"
        yield InputError(f"{share}; {remedy}.", "coordinates", source)
    elif len(away) >= ELSEWHERE * len(labels):
        remedy = "write pixels of the image files"
        message = f"{len(away)} of {len(labels)} labels of {source} lie outside their images: {_shown(away)}; {remedy}."
        yield InputError(message, "coordinates", source)


def find_doubtful(images: Sequence[Labeled], source: str, class_names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence on each kind of doubtful coordinates. The arguments are those of :func:`find_misplaced`."""
    labels = [(image, label) for image in images for label in image.labels if len(label.points)]
    if away := [(image, label) for image, label in labels if _is_outside(label, image.size)]:
        yield (
            f"{len(away)} of {len(labels)} labels of {source} lie outside their images: {_shown(away)}. They are not "
            "used; correct or remove them."
        )
    in_first_pixel = [image.name for image in images if _is_fractional(image)]
    if in_first_pixel:
        yield (
            f"All points of {_first(in_first_pixel)} in {source} lie in [0, 1]. If these are fractions of the image, "
            "write pixels."
        )
    shares = [_points(image.labels) / image.size[::-1] for image in images if len(_points(image.labels))]
    if sum(map(len, shares)) >= MANY and (np.concatenate(shares) <= CORNER).all():
        x, y = np.concatenate(shares).max(0)
        yield (
            f"All points of {source} lie in the upper left {x:.0%} x {y:.0%} of their images. If they are pixels of "
            "smaller copies, write pixels of the image files."
        )
    yield from _contradictions(images, source, class_names)


def rare_clicks(images: Sequence[Labeled], crop: int, max_side: int | None) -> Iterator[str]:
    """Yield a sentence if hardly any training crop of the images with clicks would hold a click.

    Args:
        images: Labeled images.
        crop: Side of the crops, pixels.
        max_side: Longest side to which images are reduced before, pixels.
    """
    hits, largest = [], 0.0
    for image in images:
        clicks, longest = sum(label.is_click for label in image.labels), max(image.size)
        factor = 1.0 if max_side is None else min(1.0, max_side / longest)
        share = float(np.prod([min(1.0, crop / (factor * side)) for side in image.size]))
        if clicks:
            hits.append(1 - (1 - share) ** clicks)
            largest = max(largest, factor * longest)
    if hits and np.mean(hits) < RARE:
        yield (
            f"Only {np.mean(hits):.1%} of the training crops of images with clicks would hold a click: a crop has "
            f"{crop} x {crop} pixels, and images up to {largest:.0f} on a side. Reduce them, for example "
            f"--data.max_side={3 * crop}"
        )


def _contradictions(images: Sequence[Labeled], source: str, class_names: Sequence[str]) -> Iterator[str]:
    found = []
    for image in images:
        clicks = [label for label in image.labels if label.is_click]
        if not clicks:
            continue
        points, classes = _points(clicks), np.array([click.label for click in clicks])
        distances = np.linalg.norm(points[:, None] - points, axis=2)
        near = distances <= max(np.sqrt(2), SAME_PLACE * max(image.size))
        for a, b in np.argwhere(np.triu(near & (classes[:, None] != classes))).tolist():
            names = " and ".join(class_names[classes[index]] for index in (a, b))
            found.append(f"{image.name} at ({points[a, 0]:g}, {points[a, 1]:g}): {names}")
    if found:
        yield f"{source} has clicks of different classes at one place ({len(found)}); keep one. {_first(found)}."


def _points(labels: Sequence[Annotation]) -> Points:
    """Return the points of labels, (K, 2)."""
    return np.concatenate([np.empty((0, 2)), *(label.points for label in labels)])


def _beyond(points: Points, sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which points are more than a pixel outside images of (W, H)."""
    return np.asarray(((points < -1) | (points > sizes + 1)).any(1))


def _is_outside(label: Annotation, size: tuple[int, int]) -> bool:
    """Return whether a click, all points of a scribble, or the center of a box lie outside."""
    points = label.points.mean(0, keepdims=True) if isinstance(label, Box) else label.points
    return bool(((points < 0) | (points >= size[::-1])).any(1).all())


def _is_fractional(image: Labeled) -> bool:
    points = _points(image.labels)
    return len(points) > 0 and bool(((points >= 0) & (points <= 1)).all()) and min(image.size) > 2


def _shown(labels: Sequence[tuple[Labeled, Annotation]]) -> str:
    shown = []
    for image, label in labels:
        x, y = label.points[-1]
        shown.append(f"({x:g}, {y:g}) in {image.name} of {image.size[1]} x {image.size[0]}")
    return _first(shown)


def _first(texts: Sequence[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (", ..." if len(texts) > SHOWN else "")
