"""Checks of a whole dataset before a long run: errors in its files, and labels that cannot be meant."""

from collections.abc import Container
from typing import TYPE_CHECKING, NamedTuple

from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError, distinct
from datamodules.io.images import in_threads
from datamodules.label_counts import LabelCounts, count_labels
from datamodules.label_values import doubtful_labels, doubtful_masks, label_problems, mask_problems

if TYPE_CHECKING:
    from datamodules.datamodule import SegmentationDataModule


class CheckReport(NamedTuple):
    """What a check of a dataset has found."""

    images: dict[str, int]
    """Number of images that were read, by split."""
    problems: list[InputError]
    """Errors, for which a run is refused."""
    warnings: list[str]
    """Sentences on what may be wrong."""
    counts: dict[str, LabelCounts]
    """Training labels of "train" and masks of "val". Empty if a file has an error."""


def check_splits(data: "SegmentationDataModule") -> CheckReport:
    """Read every file of "train" and "val" and collect all errors. If there is none, count and check the labels."""
    images, problems = dict[str, int](), list[InputError]()
    for name in ("train", "val"):
        try:
            for problem in data.quick_problems(name):
                problems.append(problem)  # kept if the next check raises
            split = data.split_to_check(name)
        except InputError as error:
            problems.append(InputError(str(error), "cannot be opened", name))
        else:
            images[name] = len(split)
            problems += find_problems(split, training=name == "train")
    if problems:
        return CheckReport(images, distinct(problems), [], {})
    train, val = count_labels(data.train_split(), data.stroke_width), count_labels(data.val_split(), training=False)
    problems += label_problems(train, data.supervision)
    warnings = list(doubtful_labels(train, data.supervision, data.class_names))
    dense = {"validation masks": val} | ({"training masks": train} if data.supervision == "full" else {})
    for masks, counts in dense.items():
        problems += mask_problems(counts, masks, data.class_names)
        warnings += doubtful_masks(counts, masks, data.class_names)
    return CheckReport(images, problems, [] if problems else warnings, {"train": train, "val": val})


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
