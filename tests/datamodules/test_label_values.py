"""Classes of a split that cannot be meant or are doubtful; correct splits are silent."""

from collections.abc import Callable

import numpy as np
import pytest

from datamodules.annotations import Annotation, Box
from datamodules.dataset import SegmentationDataset
from datamodules.label_counts import LabelCounts, count_labels
from datamodules.label_values import doubtful_labels, doubtful_masks, label_problems, mask_problems
from datamodules.transforms import Labels

Arrays = Callable[..., SegmentationDataset]
NAMES = ["soil", "leaf", "stone"]
IMAGE = np.zeros((4, 6, 3), dtype=np.uint8)


@pytest.fixture
def count(arrays: Arrays) -> Callable[..., LabelCounts]:
    """Count masks that have these values, or training labels."""

    def masks(*values: list[int] | None) -> LabelCounts:
        maps = [None if each is None else np.resize(np.array(each, dtype=np.uint8), (4, 6)) for each in values]
        return count_labels(arrays([IMAGE] * len(maps), maps, []), training=False)

    return masks


@pytest.fixture
def count_training(arrays: Arrays) -> Callable[..., LabelCounts]:
    def labels(*given: Labels) -> LabelCounts:
        return count_labels(arrays([IMAGE] * len(given), [], list(given)))

    return labels


def problems(counts: LabelCounts, classes: int = 2) -> list[str]:
    return [str(problem) for problem in mask_problems(counts, "validation masks", NAMES[:classes])]


def doubts(counts: LabelCounts, classes: int = 2) -> list[str]:
    return list(doubtful_masks(counts, "validation masks", NAMES[:classes]))


def test_masks_are_counted_by_class(count: Callable[..., LabelCounts]) -> None:
    counts = count([0, 1, 255], [0, 0, 2], None, [255])
    assert counts.labels == {0: 8 + 16, 1: 8, 2: 8}
    assert counts.images == {0: 2, 1: 1, 2: 1}
    assert counts.unlabeled == ["image2", "image3"]
    assert counts.values == {"image0": {0, 1, 255}, "image1": {0, 2}, "image3": {255}}


def test_masks_of_0_and_255_are_refused(count: Callable[..., LabelCounts]) -> None:
    (problem,) = problems(count([0, 255], [0, 0], [0, 255]))
    assert problem == (
        "The validation masks have only class 0, 'soil', and 255, which is unlabeled; if 255 stands for 'leaf', write 1"
        " instead."
    )
    assert len(problems(count([0, 255]), classes=3)) == 1
    assert "if 255 stands for 'soil', write 0 instead" in problems(count([1, 255]))[0]


def test_masks_without_any_label_are_refused(count: Callable[..., LabelCounts]) -> None:
    assert problems(count([255], [255])) == [
        "All pixels of the validation masks are 255, unlabeled; draw the classes 0 to 1."
    ]


def test_masks_of_one_class_are_doubtful(count: Callable[..., LabelCounts]) -> None:
    assert problems(count([0], [0])) == []
    (doubt,) = doubts(count([0], [0]))
    assert "are of class 0, 'soil'. Are the others missing?" in doubt


def test_some_masks_of_0_and_255_are_doubtful(count: Callable[..., LabelCounts]) -> None:
    (doubt,) = doubts(count([0, 255], [0, 1], [0, 255], [0]))
    assert doubt.startswith("2 of 4 validation masks have class 0 and 255 only: image0, image2.")


@pytest.mark.parametrize(
    "values",
    [
        ([0, 1], [0]),
        ([0, 1, 255], [0, 255], [255]),  # contours of 255, as in VOC
        ([0, 1], [1, 255]),
        ([0, 1], [255], None),  # unlabeled images
        (None, None),
        ([0, 2], [0]),  # an absent class
    ],
)
def test_correct_masks_are_silent(count: Callable[..., LabelCounts], values: tuple[list[int] | None, ...]) -> None:
    counts = count(*values)
    assert problems(counts, classes=3) == doubts(counts, classes=3) == []


def click(label: int) -> Annotation:
    return Annotation(label, np.array([[1.5, 2.5]]))


def test_labels_of_no_image_are_refused(count_training: Callable[..., LabelCounts]) -> None:
    assert [str(each) for each in label_problems(count_training([], []), "clicks")] == [
        "No training image has clicks; label some, or choose another supervision."
    ]
    assert list(label_problems(count_training([], [click(1)]), "clicks")) == []


def test_scribbles_without_an_unlabeled_pixel_are_refused(count_training: Callable[..., LabelCounts]) -> None:
    dense, sparse = np.zeros((4, 6), dtype=np.uint8), np.full((4, 6), 255, dtype=np.uint8)
    sparse[1] = 1
    (problem,) = label_problems(count_training(dense, dense), "scribbles")
    assert str(problem).startswith("Every pixel of all scribbles is labeled; write 255")
    assert list(label_problems(count_training(dense, sparse), "scribbles")) == []
    assert list(label_problems(count_training(dense, dense), "full")) == []


def test_labels_of_one_class_are_doubtful(count_training: Callable[..., LabelCounts]) -> None:
    counts = count_training([click(1)], [click(1), click(1)])
    assert list(doubtful_labels(counts, "clicks", NAMES)) == [
        "All clicks are of class 1, 'leaf'; the network will predict it everywhere. Label soil, stone too."
    ]


def test_classes_without_labels_are_named(count_training: Callable[..., LabelCounts]) -> None:
    counts = count_training([click(1), click(0)])
    assert list(doubtful_labels(counts, "clicks", NAMES)) == [
        "Classes without labels in any training image: stone. They cannot be learned."
    ]
    assert list(doubtful_labels(counts, "clicks", NAMES[:2])) == []


def test_background_outside_of_boxes_needs_no_box(count_training: Callable[..., LabelCounts]) -> None:
    counts = count_training([Box(1, np.array([[1.0, 1.0], [3.0, 3.0]]))])
    assert list(doubtful_labels(counts, "boxes", NAMES[:2])) == []
    assert len(list(doubtful_labels(counts, "boxes", NAMES))) == 1
