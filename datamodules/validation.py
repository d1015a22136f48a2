"""Reading a whole dataset before a long run: what is wrong with its files, and how much of each class they label."""

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from datamodules.annotations import drop_outside, rasterize
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.io.images import in_threads
from datamodules.sample import IGNORE_INDEX


@dataclass
class LabelCounts:
    """What training sees of a split.

    Args:
        images: Images per class that label it.
        labels: Clicks per class where labels are vectors, pixels where they are drawn.
        unlabeled: Names of images without any label.
        outside: Clicks outside of their image, by name.
    """

    images: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    unlabeled: list[str] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)


class CheckReport(NamedTuple):
    """What reading a whole dataset has found.

    Args:
        images: Number of images that were read, by split.
        problems: What is wrong.
    """

    images: dict[str, int]
    problems: list[InputError]


def find_problems(split: SegmentationDataset, training: bool) -> list[InputError]:
    """Read every file of a split and return what is wrong.

    Args:
        split: What to read.
        training: Read its training labels instead of its dense masks.
    """
    found = in_threads(lambda index: split.problem(index, training), len(split), "Checking")
    return [problem for problem in found if problem]


def find_unlabeled(split: SegmentationDataset, labeled: Container[str]) -> list[InputError]:
    """Return what is wrong with the training images that have no labels.

    Args:
        split: Training images.
        labeled: Names of those with labels.
    """
    others = [index for index in range(len(split)) if split.name(index) not in labeled]
    found = in_threads(lambda number: split.problem(others[number], training=True), len(others), "Checking")
    return [problem for problem in found if problem]


def count_labels(split: SegmentationDataset, stroke_width: int) -> LabelCounts:
    """Return what training sees of a split whose files are sound.

    Args:
        split: What to read.
        stroke_width: Width of strokes, pixels of the image; clicks count once.
    """
    counts = LabelCounts()
    for name, labels, outside in in_threads(lambda index: _count(split, index, stroke_width), len(split), "Counting"):
        counts.images.update(labels.keys())
        counts.labels.update(labels)
        if not labels:
            counts.unlabeled.append(name)
        if outside:
            counts.outside[name] = outside
    return counts


def _count(split: SegmentationDataset, index: int, stroke_width: int) -> tuple[str, Counter[int], int]:
    labels, outside = split.weak_labels(index), 0
    if isinstance(labels, list):
        size = split.shape(index)
        inside = drop_outside(labels, size)
        outside = len(labels) - len(inside)
        if all(annotation.is_click for annotation in inside):
            return split.name(index), Counter(annotation.label for annotation in inside), outside
        labels = rasterize(inside, size, stroke_width)
    values, pixels = np.unique(labels[labels != IGNORE_INDEX], return_counts=True)
    return split.name(index), Counter(dict(zip(values.tolist(), pixels.tolist(), strict=True))), outside
