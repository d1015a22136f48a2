"""Instance maps of COCO annotations, drawn by ``pycocotools.mask``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from datamodules.coco.file import CocoImage

Region = NDArray[np.bool_]
Instances = NDArray[np.int32]
IGNORED = -1  # value of an instance map


def fill_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Region:
    """Return the pixels that COCO draws for polygons [x, y, x, y, x, y, ...], bool (H, W)."""
    return np.asarray(rle.decode(rle.merge(rle.frPyObjects([list(p) for p in polygons], *size))), dtype=bool)


def stack(regions: Mapping[int, Region], size: tuple[int, int]) -> Instances:
    """Draw regions into one map, smaller ones on top, and the later one of equal size.

    Args:
        regions: bool (H, W), by value in the map.
        size: (H, W).

    Returns:
        int32 (H, W), 0 outside all regions.
    """
    instances = np.zeros(size, dtype=np.int32)
    for value in sorted(regions, key=lambda value: -np.count_nonzero(regions[value])):
        instances[regions[value]] = value
    return instances


def compose(image: CocoImage) -> Instances:
    """Return the instance map, int32 (H, W), with the numbers of :meth:`CocoImage.annotations`.

    Outside all instances, crowd regions and boxes are IGNORED, and the rest is 0. If an annotation has neither
    segmentation nor box, the rest is IGNORED too, since the object could be anywhere.
    """
    regions, ignored = dict[int, Region](), np.zeros(image.size, dtype=bool)
    for number, annotation in image.annotations().items():
        region = region_of(annotation, image.size)
        if annotation["crowd"] or "segmentation" not in annotation:
            ignored |= region
        else:
            regions[number] = region
    instances = stack(regions, image.size)
    instances[ignored & (instances == 0)] = IGNORED
    return instances


def region_of(annotation: Mapping[str, Any], size: tuple[int, int]) -> Region:
    """Return the pixels of an annotation, bool (H, W): its segmentation, else its box, else all pixels."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        return fill_polygons(segmentation, size)
    if segmentation is not None:
        compressed = isinstance(segmentation["counts"], str)
        return np.asarray(rle.decode(segmentation if compressed else rle.frPyObjects(segmentation, *size)), dtype=bool)
    x, y, width, height = annotation.get("bbox", (0, 0, 0, 0))
    if width * height == 0:
        return np.ones(size, dtype=bool)
    region = np.zeros(size, dtype=bool)
    bounds = np.clip([np.floor(y), np.ceil(y + height), np.floor(x), np.ceil(x + width)], 0, max(size)).astype(int)
    region[bounds[0] : bounds[1], bounds[2] : bounds[3]] = True
    return region
