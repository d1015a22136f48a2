"""Labels of a split, by class."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from datamodules.annotations import Box, drop_outside, rasterize
from datamodules.dataset import SegmentationDataset
from datamodules.io.images import in_threads
from datamodules.sample import IGNORE_INDEX


@dataclass
class LabelCounts:
    """Labels of a split.

    Args:
        images: Number of labeled images per class.
        labels: Number of clicks, tags or boxes per class, or of labeled pixels in images with scribbles or masks.
        unlabeled: Names of images without any label.
        outside: Number of clicks outside their image, by image name.
        values: Values of each label map, class indices and IGNORE_INDEX, by image name.
    """

    images: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    unlabeled: list[str] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)
    values: dict[str, frozenset[int]] = field(default_factory=dict)


class _Image(NamedTuple):
    """Labels per class, clicks outside, and whether the labels are a map, with unlabeled pixels or without."""

    labels: Counter[int]
    outside: int = 0
    is_map: bool = False
    ignored: bool = False


def count_labels(split: SegmentationDataset, stroke_width: int = 1, training: bool = True) -> LabelCounts:
    """Count the labels for training, or the dense masks.

    Args:
        split: Images whose files have no errors.
        stroke_width: Width of scribbles, pixels of the image. A click counts once.
        training: Count the labels for training instead of the dense masks.
    """
    counts = LabelCounts()
    found = in_threads(lambda index: _count(split, index, stroke_width, training), len(split), "Counting")
    for index, image in enumerate(found):
        name = split.name(index)
        counts.images.update(image.labels.keys())
        counts.labels.update(image.labels)
        if not image.labels:
            counts.unlabeled.append(name)
        if image.outside:
            counts.outside[name] = image.outside
        if image.is_map:
            counts.values[name] = frozenset({*image.labels, *([IGNORE_INDEX] if image.ignored else [])})
    return counts


def _count(split: SegmentationDataset, index: int, stroke_width: int, training: bool) -> _Image:
    labels, outside = split.weak_labels(index) if training else split.dense_mask(index), 0
    if labels is None:
        return _Image(Counter())
    is_map = not isinstance(labels, list)
    if isinstance(labels, list):
        size = split.shape(index)
        inside = drop_outside(labels, size)
        outside = len(labels) - len(inside)
        if all(len(each.points) < 2 or isinstance(each, Box) for each in inside):
            return _Image(Counter(annotation.label for annotation in inside), outside)
        labels = rasterize(inside, size, stroke_width)
    values, pixels = np.unique(labels, return_counts=True)
    counter = Counter(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
    ignored = counter.pop(IGNORE_INDEX, 0) > 0
    return _Image(counter, outside, is_map, ignored)
