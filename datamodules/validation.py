"""Checks of a whole dataset before a long run: errors in its files, and the number of labels per class."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from datamodules.annotations import drop_outside, rasterize
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError, distinct
from datamodules.io.images import in_threads
from datamodules.sample import IGNORE_INDEX


@dataclass
class LabelCounts:
    """Labels of the training images.

    Args:
        images: Number of labeled images per class.
        labels: Number of clicks per class, or of pixels in images with scribbles or masks.
        unlabeled: Names of images without any label.
        outside: Number of clicks outside their image, by image name.
    """

    images: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    unlabeled: list[str] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)


class CheckReport(NamedTuple):
    """Result of reading a whole dataset.

    Args:
        images: Number of images read, by split.
        problems: Errors found.
    """

    images: dict[str, int]
    problems: list[InputError]


def check_splits(
    quick_problems: Callable[[str], Iterable[InputError]], open_split: Callable[[str], SegmentationDataset]
) -> CheckReport:
    """Read every file of the splits "train" and "val" and collect all errors.

    Args:
        quick_problems: Yields errors of a split that are found without decoding every image.
        open_split: Returns a split.
    """
    images, problems = dict[str, int](), list[InputError]()
    for split in ("train", "val"):
        try:
            for problem in quick_problems(split):
                problems.append(problem)  # kept if the next check raises
            opened = open_split(split)
        except InputError as error:
            problems.append(InputError(str(error), "cannot be opened", split))
        else:
            images[split] = len(opened)
            problems += find_problems(opened, training=split == "train")
    return CheckReport(images, distinct(problems))


def find_problems(split: SegmentationDataset, training: bool) -> list[InputError]:
    """Read every image of a split and return the errors.

    Args:
        split: Images to read.
        training: Read the labels for training instead of the dense masks.
    """
    return _problems(split, range(len(split)), training)


def find_unlabeled(split: SegmentationDataset, labeled: Container[str]) -> list[InputError]:
    """Read the images that are not in ``labeled`` and return the errors.

    Args:
        split: Training images.
        labeled: Names of the images with labels.
    """
    return _problems(split, [i for i in range(len(split)) if split.name(i) not in labeled], training=True)


def _problems(split: SegmentationDataset, indices: Sequence[int], training: bool) -> list[InputError]:
    found = in_threads(lambda place: split.problem(indices[place], training), len(indices), "Checking")
    return [problem for problem in found if problem]


def count_labels(split: SegmentationDataset, stroke_width: int) -> LabelCounts:
    """Count the labels for training.

    Args:
        split: Images whose files have no errors.
        stroke_width: Width of scribbles, pixels of the image. A click counts once.
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
    """Return the name of an image, its number of labels per class, and its number of clicks outside."""
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
