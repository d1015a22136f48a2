"""Predictions of the network become proposals within the boxes."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Box, LabelMap
from datamodules.io.errors import InputError
from datamodules.proposals import BoxInnerLabels, BoxLabels, LabelGenerator, RecursiveBoxes, ScribbleSupLabels
from datamodules.transforms import Image

IMAGE = np.zeros((20, 24, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Never(LabelGenerator):
    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        raise AssertionError


def box(label: int, x0: int, y0: int, x1: int, y1: int) -> Box:
    return Box(label, np.array([[x0, y0], [x1, y1]], dtype=np.float64))


def one_hot(labels: LabelMap, classes: int = 4) -> NDArray[np.float32]:
    return (0.1 + 0.6 * (labels == np.arange(classes)[:, None, None])).astype(np.float32)


def propose(generator: LabelGenerator, labels: list[Box], probs: NDArray[np.float32] | None) -> LabelMap:
    proposal = generator(IMAGE, [*labels], probs, np.random.default_rng(0))
    assert proposal.dtype == np.uint8
    return proposal


def test_first_round_is_the_other_generator() -> None:
    boxes = [box(1, 2, 3, 10, 15), box(2, 8, 2, 20, 18)]
    assert np.array_equal(
        propose(RecursiveBoxes(BoxInnerLabels()), boxes, None), propose(BoxInnerLabels(), boxes, None)
    )


@pytest.mark.parametrize("seed", range(8))
def test_later_rounds_follow_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = []
    for label in (1, 2, 3, 1, 2):
        (x, y), (w, h) = rng.integers(0, 14, 2), rng.integers(2, 11, 2)
        boxes.append(box(label, int(x), int(y), int(x + w), int(y + h)))
    boxes.sort(key=lambda each: -np.prod(each.points[1] - each.points[0]))
    predicted = rng.integers(0, 4, (5, 6)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    start = propose(BoxInnerLabels(), boxes, None)

    def contains(each: Box, y: int, x: int) -> bool:
        (x0, y0), (x1, y1) = each.points
        return bool(x0 <= x < x1 and y0 <= y < y1)

    kept = np.zeros_like(predicted)
    for y, x in np.ndindex(*predicted.shape):
        if any(each.label == predicted[y, x] and contains(each, y, x) for each in boxes):
            kept[y, x] = predicted[y, x]
    expected = kept.copy()
    for each in boxes:
        pixels = [(y, x) for y, x in np.ndindex(*kept.shape) if contains(each, y, x)]
        segment = [pixel for pixel in pixels if kept[pixel] == each.label]
        for pixel in pixels:
            expected[pixel] = (kept if len(segment) >= 0.4 * len(pixels) else start)[pixel]
    found = propose(RecursiveBoxes(BoxInnerLabels(), min_share=0.4), boxes, one_hot(predicted))
    assert np.array_equal(found, expected)


def test_half_of_a_box_is_enough_and_less_is_reset() -> None:
    boxes = [box(1, 0, 0, 10, 10)]
    predicted = np.zeros(IMAGE.shape[:2], dtype=np.uint8)
    predicted[:5] = 1  # half of the box, and pixels beside it
    kept = propose(RecursiveBoxes(BoxLabels()), boxes, one_hot(predicted))
    assert np.array_equal(np.argwhere(kept), np.argwhere(np.ones((5, 10))))
    predicted[0, 0] = 2
    reset = propose(RecursiveBoxes(BoxLabels()), boxes, one_hot(predicted))
    assert np.array_equal(reset, propose(BoxLabels(), boxes, None))


def test_accepted_segments_need_no_second_call_of_the_other_generator() -> None:
    boxes = [box(1, 0, 0, 10, 10), box(2, 30, 30, 40, 40)]  # the second lies outside the image
    predicted = np.ones(IMAGE.shape[:2], dtype=np.uint8)
    assert np.count_nonzero(propose(RecursiveBoxes(Never()), boxes, one_hot(predicted))) == 100


def test_first_generator_of_recursive_boxes_reads_boxes() -> None:
    with pytest.raises(InputError, match=r"ScribbleSupLabels makes label maps from clicks or .* is 'boxes'"):
        RecursiveBoxes(ScribbleSupLabels())
