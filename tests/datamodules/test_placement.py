"""Coordinates that are not pixels of their image are found; correct ones are silent."""

from collections.abc import Callable

import numpy as np
import pytest

from datamodules.annotations import Annotation, Box, Points
from datamodules.placement import Labeled, find_doubtful, find_misplaced, rare_clicks

SIZE = (300, 400)  # (H, W)
NAMES = ["soil", "leaf"]
Change = Callable[[Points], Points]


def scene(kind: str = "clicks", images: int = 10, size: tuple[int, int] = SIZE, seed: int = 0) -> list[Labeled]:
    """Return images with three labels of either class, anywhere inside."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(images):
        labels: list[Annotation] = []
        for label in (0, 0, 0, 1, 1, 1):
            points = rng.random((1 if kind == "clicks" else 2, 2)) * size[::-1]
            if kind == "boxes":
                labels.append(Box(label, np.array([points.min(0), points.max(0) + 0.1])))
            else:
                labels.append(Annotation(label, points))
        found.append(Labeled(f"image{index}", labels, size))
    return found


def moved(images: list[Labeled], change: Change) -> list[Labeled]:
    return [
        image._replace(labels=[type(label)(label.label, change(label.points)) for label in image.labels])
        for image in images
    ]


def problems(images: list[Labeled]) -> list[str]:
    return [str(problem) for problem in find_misplaced(images, "clicks.json")]


def doubts(images: list[Labeled]) -> list[str]:
    return list(find_doubtful(images, "clicks.json", NAMES))


@pytest.mark.parametrize("kind", ["clicks", "scribbles", "boxes"])
@pytest.mark.parametrize("seed", range(5))
def test_labels_inside_their_images_are_silent(kind: str, seed: int) -> None:
    for size in (SIZE, (300, 300), (3000, 2000)):
        images = scene(kind, size=size, seed=seed)
        assert problems(images) == []
        assert doubts(images) == []


def test_images_without_points_are_silent() -> None:
    tags = Labeled("a", [Annotation(1, np.empty((0, 2)))], SIZE)
    for images in ([], [Labeled("a", [], SIZE)], [tags]):
        assert problems(images) == doubts(images) == list(rare_clicks(images, 256, None)) == []


@pytest.mark.parametrize("kind", ["clicks", "scribbles", "boxes"])
@pytest.mark.parametrize("size", [SIZE, SIZE[::-1]])
def test_swapped_coordinates_are_refused(kind: str, size: tuple[int, int]) -> None:
    (problem,) = problems(moved(scene(kind, size=size), lambda points: points[:, ::-1]))
    assert "of the points of clicks.json lie outside their images, and none does if x and y are swapped" in problem


def test_slips_are_no_swapped_coordinates() -> None:
    """On an image that is nearly square, a slip over the edge is inside if it is swapped."""
    images = scene(images=2, size=(300, 310))
    images[0].labels.append(Annotation(1, np.array([[100.0, 305.0]])))
    assert problems(images) == []
    (doubt,) = doubts(images)
    assert doubt.startswith(
        "1 of 13 labels of clicks.json lie outside their images: (100, 305) in image0 of 310 x 300."
    )


@pytest.mark.parametrize("kind", ["clicks", "scribbles", "boxes"])
def test_fractions_of_the_image_are_refused(kind: str) -> None:
    (problem,) = problems(moved(scene(kind), lambda points: points / SIZE[::-1]))
    assert problem == ("All points of clicks.json lie in [0, 1]; write pixels: x times the width, y times the height.")


def test_box_over_the_edge_is_silent_and_one_beyond_it_is_doubtful() -> None:
    images = scene("boxes")
    images[0].labels.append(Box(1, np.array([[350.0, 250.0], [420.0, 330.0]])))
    assert doubts(images) == []
    images[0].labels.append(Box(1, np.array([[390.0, 250.0], [460.0, 330.0]])))
    (doubt,) = doubts(images)
    assert doubt.startswith("1 of 62 labels of clicks.json lie outside their images: (460, 330) in image0")


def test_fractions_in_some_images_are_doubtful() -> None:
    images = scene()
    images[3:5] = moved(images[3:5], lambda points: points / SIZE[::-1])
    images[7].labels[:] = [Annotation(1, np.array([[0.5, 0.5]]))] * 2  # both in the first pixel
    assert problems(images) == []
    assert doubts(images)[0] == (
        "All points of image3, image4, image7 in clicks.json lie in [0, 1]. If these are fractions of the image, write "
        "pixels."
    )


@pytest.mark.parametrize("kind", ["clicks", "scribbles", "boxes"])
def test_pixels_of_larger_copies_are_refused(kind: str) -> None:
    (problem,) = problems(moved(scene(kind), lambda points: points * 4))
    assert "labels of clicks.json lie outside their images: (" in problem
    assert problem.endswith("; write pixels of the image files.")


@pytest.mark.parametrize("kind", ["clicks", "scribbles", "boxes"])
def test_pixels_of_smaller_copies_are_doubtful(kind: str) -> None:
    images = moved(scene(kind), lambda points: points / 4)
    assert problems(images) == []
    assert any("lie in the upper left 25% x 25% of their images" in doubt for doubt in doubts(images))


def test_few_points_in_a_corner_are_silent() -> None:
    images = [image._replace(labels=image.labels[:1]) for image in scene(images=11)]
    assert doubts(moved(images, lambda points: points / 4)) == []


@pytest.mark.parametrize(
    ("label", "offset", "expected"),
    [
        (1, (0.0, 0.0), True),
        (1, (1.0, 1.0), True),
        (1, (0.0, 2.0), True),
        (1, (3.0, 0.0), False),
        (0, (0.0, 0.0), False),
    ],
)
def test_clicks_of_different_classes_at_one_place_are_doubtful(
    label: int, offset: tuple[float, float], expected: bool
) -> None:
    """Half a percent of 400 pixels is 2 pixels."""
    images = [
        Labeled("a", [Annotation(0, np.array([[50.0, 60.0]])), Annotation(label, np.array([[50.0, 60.0]]))], SIZE)
    ]
    images[0].labels[1].points[0] += offset
    expectation = [
        "clicks.json has clicks of different classes at one place (1); keep one. a at (50, 60): soil and leaf."
    ]
    assert doubts(images) == (expectation if expected else [])


@pytest.mark.parametrize(("max_side", "expected"), [(None, True), (768, False)])
def test_crops_of_large_photographs_that_miss_the_clicks_are_doubtful(max_side: int | None, expected: bool) -> None:
    """Against the share of random crops that hold one of three clicks."""
    images = [image._replace(labels=image.labels[:3]) for image in scene(size=(3000, 4000))]
    share = 1 - (1 - 256 * 256 / (3000 * 4000)) ** 3
    found = list(rare_clicks(images, 256, max_side))
    assert len(found) == expected
    assert all(f"Only {share:.1%} of the training crops" in text and "--data.max_side=768" in text for text in found)


def test_clicks_of_common_datasets_are_not_rare() -> None:
    for size, crop in (((375, 500), 256), ((1024, 2048), 768), ((180, 240), 128)):
        assert list(rare_clicks(scene(size=size), crop, None)) == []
