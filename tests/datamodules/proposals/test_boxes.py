"""Proposals from boxes alone label the pixels whose centers lie in them."""

import numpy as np
import pytest

from datamodules.annotations import Annotation, Box, LabelMap
from datamodules.io.errors import InputError
from datamodules.proposals import BoxInnerLabels, BoxLabels, LabelGenerator
from datamodules.proposals.boxes import pixels_in

SIZE = (12, 15)


def box(label: int, *corners: float) -> Box:
    return Box(label, np.array(corners, dtype=np.float64).reshape(2, 2))


def propose(generator: LabelGenerator, labels: list[Annotation], size: tuple[int, int] = SIZE) -> LabelMap:
    image = np.zeros((*size, 3), dtype=np.uint8)
    proposal = generator(image, labels, None, np.random.default_rng(0))
    assert proposal.dtype == np.uint8
    return proposal


def paint(proposal: LabelMap, x0: float, y0: float, x1: float, y1: float, value: int) -> None:
    """Set the pixels whose centers are in a box."""
    for y, x in np.ndindex(*proposal.shape):
        if x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1:
            proposal[y, x] = value


def random_boxes(seed: int) -> list[Box]:
    """Return boxes at least one pixel wide and high, some of them partly or fully outside the image."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-6, 18, (7, 2))
    return [
        box(label, *corner, *(corner + side))
        for label, (corner, side) in enumerate(zip(corners, rng.uniform(3, 9, (7, 2)), strict=True), start=1)
    ]


def area(each: Box) -> float:
    (x0, y0), (x1, y1) = each.points.tolist()
    return float((x1 - x0) * (y1 - y0))


@pytest.mark.parametrize("seed", range(6))
def test_boxes_label_the_pixels_whose_centers_they_contain_smaller_ones_on_top(seed: int) -> None:
    boxes = random_boxes(seed)
    expected = np.zeros(SIZE, dtype=np.uint8)
    for each in sorted(boxes, key=area, reverse=True):
        paint(expected, *each.points.ravel().tolist(), each.label)
    assert np.array_equal(propose(BoxLabels(), [*boxes]), expected)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_inner_labels_fill_a_centered_rectangle_and_ignore_the_rest(seed: int, share: float) -> None:
    boxes = random_boxes(seed)
    expected = np.zeros(SIZE, dtype=np.uint8)
    for each in sorted(boxes, key=area, reverse=True):
        x0, y0, x1, y1 = each.points.ravel().tolist()
        width, height = (x1 - x0) * share**0.5, (y1 - y0) * share**0.5
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        paint(expected, x0, y0, x1, y1, 255)
        paint(expected, x - width / 2, y - height / 2, x + width / 2, y + height / 2, each.label)
    assert np.array_equal(propose(BoxInnerLabels(share), [*boxes]), expected)


def test_inner_labels_cover_a_fifth_of_the_box() -> None:
    proposal = propose(BoxInnerLabels(), [box(3, 20, 30, 220, 130)], (200, 300))
    assert abs(np.count_nonzero(proposal == 3) / (200 * 100) - 0.2) < 0.005
    assert np.count_nonzero(proposal != 0) == 200 * 100


def test_integer_corners_are_slices_and_neighbors_share_no_pixel() -> None:
    assert pixels_in(box(1, 2, 3, 7, 9).points, SIZE) == (slice(3, 9), slice(2, 7))
    left, right = pixels_in(box(1, 2, 3, 4.5, 9).points, SIZE), pixels_in(box(1, 4.5, 3, 7, 9).points, SIZE)
    assert left[1].stop == right[1].start


@pytest.mark.parametrize("generator", [BoxLabels(), BoxInnerLabels()])
@pytest.mark.parametrize(
    ("corners", "pixel"),
    [((4.6, 3.7, 4.9, 3.8), (3, 4)), ((4.9, 3.1, 5.2, 3.3), (3, 5)), ((0.1, 0.1, 0.2, 0.2), (0, 0))],
)
def test_box_below_a_pixel_labels_the_pixel_of_its_middle(
    generator: LabelGenerator, corners: tuple[float, ...], pixel: tuple[int, int]
) -> None:
    proposal = propose(generator, [box(2, *corners)])
    assert np.argwhere(proposal == 2).tolist() == [list(pixel)]
    assert np.count_nonzero(proposal) == 1


@pytest.mark.parametrize("generator", [BoxLabels(), BoxInnerLabels()])
@pytest.mark.parametrize("corners", [(-9, -9, -2, -2), (15, 2, 20, 9), (2, 12, 9, 1e9), (-0.3, 2, -0.1, 4)])
def test_box_outside_the_image_labels_nothing(generator: LabelGenerator, corners: tuple[float, ...]) -> None:
    assert not propose(generator, [box(2, *corners)]).any()


def test_other_annotations_label_nothing_and_the_later_of_equal_boxes_is_in_front() -> None:
    others = [Annotation(5, np.array([[3.5, 3.5]])), Annotation(6, np.empty((0, 2)))]
    proposal = propose(BoxLabels(), [box(1, 0, 0, 4, 4), box(2, 2, 2, 6, 6), *others])
    assert proposal[3, 3] == 2
    assert set(np.unique(proposal)) == {0, 1, 2}


def test_share_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(InputError, match=r"share is 20.*\[0, 1\]"):
        BoxInnerLabels(20)
