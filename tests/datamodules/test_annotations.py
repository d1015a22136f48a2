"""Rasterized clicks and scribbles against hand-counted pixels; JSON round trips."""

import json
from typing import Any

import numpy as np
import pytest

from datamodules.annotations import (
    Annotation,
    Box,
    drop_outside,
    fractional_indices,
    from_json,
    pixel_centers,
    pixel_indices,
    rasterize,
    to_json,
)
from datamodules.sample import IGNORE_INDEX

ZIGZAG = np.array([[2.0, 3.0], [10.0, 3.0], [10.0, 3.0], [13.5, 20.0], [4.0, 18.0], [4.0, 30.0]])


def line(label: int, *points: tuple[float, float]) -> Annotation:
    return Annotation(label, np.array(points, dtype=np.float64))


@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("point", [(10.0, 7.0), (10.5, 7.5), (10.999, 7.999)])
def test_click_sets_a_square_around_the_pixel_that_contains_it(width: int, point: tuple[float, float]) -> None:
    expected = np.full((16, 20), IGNORE_INDEX)
    reach = width // 2
    expected[7 - reach : 8 + reach, 10 - reach : 11 + reach] = 4
    assert (expected == 4).sum() == width**2
    np.testing.assert_array_equal(rasterize([line(4, point)], (16, 20), width), expected)


@pytest.mark.parametrize(
    ("point", "width", "pixels"),
    [
        ((0.5, 0.5), 3, 4),
        ((19.5, 15.5), 3, 4),
        ((0.5, 8.5), 3, 6),
        ((19.999, 8.5), 1, 1),
        ((-0.5, 8.5), 1, 0),
        ((-0.5, 8.5), 3, 3),
        ((20.0, 8.5), 1, 0),
        ((5.0, 16.0), 1, 0),
        ((-1.5, 8.5), 3, 0),
        ((1e300, -1e300), 3, 0),
    ],
)
def test_click_is_clipped_at_the_border(point: tuple[float, float], width: int, pixels: int) -> None:
    assert (rasterize([line(1, point)], (16, 20), width) == 1).sum() == pixels


@pytest.mark.parametrize("width", [1, 3, 5])
def test_stroke_is_exactly_its_width_along_the_axes(width: int) -> None:
    horizontal = rasterize([line(1, (5.5, 10.5), (24.5, 10.5))], (30, 30), width) == 1
    assert set(horizontal[:, 8:22].sum(0)) == {width}
    assert horizontal[10, 5:25].all()
    vertical = rasterize([line(1, (10.5, 5.5), (10.5, 24.5))], (30, 30), width) == 1
    np.testing.assert_array_equal(vertical, horizontal.T)


@pytest.mark.parametrize("degrees", [7, 20, 33.7, 45, 56.3, 70, 83, 110, 146.3, 170])
def test_slanted_stroke_is_at_most_a_fifth_wider(degrees: float) -> None:
    """Measure area over length in the central 60 % of the line, to leave out its ends."""
    direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    center, length = np.array([200.5, 200.5]), 360
    ends = center + np.array([[-0.5], [0.5]]) * length * direction
    drawn = rasterize([Annotation(1, ends)], (401, 401), 3) == 1
    y, x = np.mgrid[:401, :401] + 0.5
    along = (x - center[0]) * direction[0] + (y - center[1]) * direction[1]
    width = (drawn & (abs(along) < 0.3 * length)).sum() / (0.6 * length)
    assert 3 - 0.02 <= width <= 1.2 * 3 + 0.02  # pixels cut by the two bounds: about one in 60


@pytest.mark.parametrize("end", [(30.5, 12.5), (12.5, 33.5), (25.5, 3.5)])
def test_thin_line_has_one_pixel_per_step(end: tuple[float, float]) -> None:
    drawn = rasterize([line(1, (5.5, 9.5), end)], (40, 40)) == 1
    assert drawn.sum() == 1 + max(abs(end[0] - 5.5), abs(end[1] - 9.5))
    assert drawn[9, 5]
    assert drawn[int(end[1]), int(end[0])]


def test_polyline_is_open() -> None:
    drawn = rasterize([line(1, (2.5, 2.5), (12.5, 2.5), (12.5, 12.5))], (16, 16)) == 1
    assert drawn.sum() == 21


def test_later_annotations_lie_on_top() -> None:
    stroke, click = line(1, (2.5, 5.5), (12.5, 5.5)), line(2, (7.5, 5.5))
    assert rasterize([stroke, click], (12, 16), 3)[5, 7] == 2
    assert set(np.unique(rasterize([click, stroke], (12, 16), 3))) == {1, IGNORE_INDEX}


@pytest.mark.parametrize("width", [1, 3])
def test_stroke_that_leaves_the_image_is_the_crop_of_the_whole(width: int) -> None:
    corners = np.array([[-6.5, 4.5], [3.5, 4.5], [13.5, 14.5], [13.5, 30.5], [-0.5, 30.5], [-0.5, -5.5], [8.5, -0.5]])
    whole = rasterize([Annotation(1, corners + 20)], (70, 70), width)
    np.testing.assert_array_equal(rasterize([Annotation(1, corners)], (12, 14), width), whole[20:32, 20:34])


def test_huge_coordinates_survive() -> None:
    drawn = rasterize([line(1, (-1e12, 8.5), (1e12, 8.5)), line(2, (1e12, 1e12), (1e13, 1e13))], (16, 20))
    assert (drawn[8] == 1).all()
    assert (drawn != IGNORE_INDEX).sum() == 20


@pytest.mark.parametrize("width", [0, 2, 4, -1])
def test_width_that_is_not_odd_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width is {width}"):
        rasterize([line(1, (2.0, 2.0))], (8, 8), width)


def test_only_clicks_outside_are_dropped() -> None:
    inside = [line(1, (0.0, 0.0)), line(1, (19.99, 9.99)), line(1, (-5.0, 3.0), (5.0, 3.0))]
    outside = [line(1, (20.0, 5.0)), line(1, (5.0, 10.0)), line(1, (-0.01, 5.0)), line(1, (5.0, -0.01))]
    kept = drop_outside([*inside, *outside], (10, 20, 3))
    assert [id(a) for a in kept] == [id(a) for a in inside]


def test_json_round_trip_is_exact() -> None:
    annotations = [line(0, (0.1, 1 / 3)), Annotation(20, ZIGZAG)]
    back = from_json(json.loads(json.dumps(to_json(annotations))))
    assert [a.label for a in back] == [0, 20]
    assert [a.is_click for a in back] == [True, False]
    for a, b in zip(annotations, back, strict=True):
        np.testing.assert_array_equal(a.points, b.points)


@pytest.mark.parametrize(
    "item",
    [
        {"points": [[1, 2]]},
        {"class": 1},
        {"class": "cat", "points": [[1, 2]]},
        {"class": 0.5, "points": [[1, 2]]},
        {"class": True, "points": [[1, 2]]},
        {"class": float("inf"), "points": [[1, 2]]},
        {"class": 1, "points": []},
        {"class": 1, "points": [1, 2]},
        {"class": 1, "points": [[1, 2, 3]]},
        {"class": 1, "points": [[1, 2], [3]]},
        {"class": 1, "points": [[1, float("nan")]]},
        {"class": 1, "points": "here"},
        [1, 2],
        None,
    ],
)
def test_item_that_is_no_annotation_is_shown(item: Any) -> None:
    with pytest.raises(ValueError, match=r"annotation|points") as error:
        from_json([{"class": 1, "points": [[1, 2]]}, item])
    assert repr(item) in str(error.value)


@pytest.mark.parametrize("label", [3, 3.0, "3"])
def test_class_may_be_written_as_any_whole_number(label: Any) -> None:
    (annotation,) = from_json([{"class": label, "points": [[1, 2]]}])
    assert annotation.label == 3


def test_center_of_the_first_pixel_is_half_a_pixel_from_the_corner() -> None:
    indices = np.array([[0.0, 0.0], [19.0, 15.0]])
    np.testing.assert_array_equal(pixel_centers(indices), [[0.5, 0.5], [19.5, 15.5]])
    np.testing.assert_array_equal(fractional_indices(pixel_centers(indices)), indices)
    np.testing.assert_array_equal(pixel_indices(np.array([[0.0, 0.999], [-0.001, 1.0]])), [[0, 0], [-1, 1]])


def test_matrix_mirrors_the_pixels_of_clicks() -> None:
    clicks = [line(label, (float(label), 2.9)) for label in range(8)]
    mirror = np.array([[-1.0, 0, 8], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(rasterize(clicks, (4, 8), 1, mirror), np.fliplr(rasterize(clicks, (4, 8))))


def test_boxes_tags_and_ranks_survive_json_and_label_no_pixels() -> None:
    given = [
        Box(2, np.array([[1.5, 2.0], [7.0, 9.25]])),
        Annotation(3, np.empty((0, 2))),
        Annotation(1, np.array([[4.5, 5.5]]), rank=2),
    ]
    plain = json.loads(json.dumps(to_json(given)))
    assert plain == [{"class": 2, "box": [1.5, 2.0, 7.0, 9.25]}, 3, {"class": 1, "points": [[4.5, 5.5]], "rank": 2}]
    for before, after in zip(given, from_json(plain), strict=True):
        assert (type(before), before.label, before.rank) == (type(after), after.label, after.rank)
        np.testing.assert_array_equal(before.points, after.points)
    drawn = rasterize(given, (10, 10))
    assert np.argwhere(drawn != 255).tolist() == [[5, 4]]
    assert len(drop_outside(given, (3, 3))) == 2  # without the click


@pytest.mark.parametrize("box", [[1, 2, 1, 5], [1, 2, 3], [1, 2, float("nan"), 5], "1 2 3 4"])
def test_boxes_without_area_are_refused(box: object) -> None:
    with pytest.raises(ValueError, match=r"is not a(n annotation| box); write"):
        from_json([{"class": 1, "box": box}])
