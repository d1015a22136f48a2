"""Checks of a whole dataset before a long run: errors in its files, and labels per class."""

from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from datamodules.annotations import Box, drop_outside, rasterize
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError, distinct
from datamodules.io.images import in_threads
from datamodules.sample import IGNORE_INDEX


@dataclass
class LabelCounts:
    """Labels of the training images.

    Args:
        images: Number of labeled images per class.
        labels: Number of clicks, tags or boxes per class, or of labeled pixels in images with scribbles or masks.
        unlabeled: Names of images without any label.
        outside: Number of clicks outside their image, by image name.
    """

    images: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    unlabeled: list[str] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)


class CheckReport(NamedTuple):
    """Errors of a dataset, and the number of images read in each split."""

    images: dict[str, int]
    problems: list[InputError]


def check_splits(
    quick_problems: Callable[[str], Iterable[InputError]], open_split: Callable[[str], SegmentationDataset]
) -> CheckReport:
    """Read every file of "train" and "val" and collect all errors.

    Args:
        quick_problems: Returns the errors of a split that are found without reading every image.
        open_split: Opens a split.
    """
    images, problems = dict[str, int](), list[InputError]()
    for name in ("train", "val"):
        try:
            for problem in quick_problems(name):
                problems.append(problem)  # kept if the next check raises
            split = open_split(name)
        except InputError as error:
            problems.append(InputError(str(error), "cannot be opened", name))
        else:
            images[name] = len(split)
            problems += find_problems(split, training=name == "train")
    return CheckReport(images, distinct(problems))


def find_problems(split: SegmentationDataset, training: bool, skip: Container[str] = ()) -> list[InputError]:
    """Read every image of a split, except those named in ``skip``, and return the errors.

    Args:
        split: Images to read.
        training: Read the labels for training instead of the dense masks.
        skip: Image names.
    """
    indices = [index for index in range(len(split)) if split.name(index) not in skip]
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
        if all(len(each.points) < 2 or isinstance(each, Box) for each in inside):
            return split.name(index), Counter(annotation.label for annotation in inside), outside
        labels = rasterize(inside, size, stroke_width)
    values, pixels = np.unique(labels[labels != IGNORE_INDEX], return_counts=True)
    return split.name(index), Counter(dict(zip(values.tolist(), pixels.tolist(), strict=True))), outside
