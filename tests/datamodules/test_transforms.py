"""Image, labels, validity and annotations are warped alike, measured on an image that encodes its coordinates."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.annotations import Annotation, drop_outside, rasterize
from datamodules.sample import IGNORE_INDEX, Sample
from datamodules.transforms import Image, Labels, RandomScaleCropFlip

HEIGHT, WIDTH, CROP = 36, 48, 32
SEEDS = range(40)


def coordinates(axis: int) -> Image:
    """Encode x (axis 0) or y: red rises by 5 per pixel, green is a triangular wave that rises and falls by 30."""
    place = np.indices((HEIGHT, WIDTH))[1 - axis]
    return np.stack([5 * place, 30 * (8 - abs(place % 16 - 8)), 0 * place], axis=2).astype(np.uint8)


def apply(transform: RandomScaleCropFlip, image: Image, labels: Labels, seed: int, stroke_width: int = 1) -> Sample:
    return transform(image, labels, "name", np.random.default_rng(seed), stroke_width)


def interior(mask: NDArray[np.bool_], margin: int = 1) -> NDArray[np.bool_]:
    """Return the pixels whose neighborhood is in the mask."""
    square = np.ones((2 * margin + 1, 2 * margin + 1), dtype=np.uint8)
    return cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0).astype(bool)


def measure(transform: RandomScaleCropFlip, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit x' = slope x + offset, and likewise y, in continuous coordinates. The error is 0.02 pixels."""
    fits = []
    for axis in (0, 1):
        sample = apply(transform, coordinates(axis), [], seed)
        inside = interior(sample["valid"].numpy(), 2)
        red, green = (sample["image"][channel].numpy()[inside].astype(float) for channel in (0, 1))
        piece = np.floor(red / 5 / 8)  # red gives the slope of the wave, green the position on that slope
        source = 8 * piece + np.where(piece % 2 == 0, green / 30, 8 - green / 30)
        clear = abs(red / 5 % 8 - 4) < 2.5
        slope, offset = np.polyfit(np.nonzero(inside)[1 - axis][clear] + 0.5, source[clear] + 0.5, 1)
        fits.append((1 / slope, -offset / slope))
    return np.array([f[0] for f in fits]), np.array([f[1] for f in fits])


@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.5, 2.0), (1.0, 1.0), (2.0, 2.0)])
def test_no_click_vanishes_or_grows(scale: tuple[float, float]) -> None:
    """The oracle moves clicks by the fitted map. Clicks within its error of a pixel's edge are left out."""
    transform = RandomScaleCropFlip(CROP, scale)
    drawn = 0
    for seed in SEEDS:
        slope, offset = measure(transform, seed)
        points = np.random.default_rng([9, seed]).uniform([0, 0], [WIDTH, HEIGHT], size=(150, 2))
        moved = (np.floor(points) + 0.5) * slope + offset  # a click labels the center of its pixel
        sure = (abs(moved - moved.round()) > 0.06).all(1)
        expected = np.full((CROP, CROP), IGNORE_INDEX)
        for label, (x, y) in enumerate(np.floor(moved[sure]).astype(int)):
            if 0 <= x < CROP and 0 <= y < CROP:
                expected[y, x] = label
        clicks = [Annotation(label, point[None]) for label, point in enumerate(points[sure])]
        target = apply(transform, coordinates(0), clicks, seed)["target"]
        np.testing.assert_array_equal(target, expected)
        drawn += int((expected != IGNORE_INDEX).sum())
    assert drawn > 10 * len(SEEDS)


@pytest.mark.parametrize("width", [1, 3])
def test_clicks_lie_on_the_color_of_their_region(width: int) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] // 12
    region = (rows * 4 + columns).astype(np.uint8)
    image = (20 + 18 * region)[..., None].repeat(3, axis=2)
    clicks = [Annotation(4 * r + c, np.array([[12 * c + 6.0, 12 * r + 6.0]])) for r in range(3) for c in range(4)]
    found = 0
    for seed in SEEDS:
        sample = apply(RandomScaleCropFlip(CROP), image, clicks, seed, width)
        labeled = sample["target"] != IGNORE_INDEX
        assert (sample["image"][0][labeled] == 20 + 18 * sample["target"][labeled]).all()
        found += len(sample["target"].unique()) - 1
    assert found > 4 * len(SEEDS)


def test_image_mask_and_validity_move_together() -> None:
    mask = np.random.default_rng(0).integers(0, 4, size=(9, 12), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    image = (40 + 60 * mask)[..., None].repeat(3, axis=2)
    compared = 0
    for seed in SEEDS:
        sample = apply(RandomScaleCropFlip(CROP, (0.5, 2.0)), image, mask, seed)
        target, valid = sample["target"].numpy(), sample["valid"].numpy()
        np.testing.assert_array_equal(target != IGNORE_INDEX, valid)
        uniform = interior(valid, 2)
        for label in range(4):
            core = interior(target == label) & uniform
            assert (sample["image"].numpy()[:, core] == 40 + 60 * label).all()
            compared += int(core.sum())
    assert compared > 100 * len(SEEDS)


def test_padding_is_black_unlabeled_and_invalid() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    stroke = Annotation(1, np.array([[-99.0, 18.0], [99.0, 18.0]]))
    labels: list[Labels] = [np.zeros((HEIGHT, WIDTH), dtype=np.uint8), [stroke]]
    for seed in range(10):
        for given in labels:
            sample = apply(RandomScaleCropFlip(100, (0.5, 2.0)), image, given, seed)
            padding = ~sample["valid"]
            assert padding.sum() > 100 * 100 - 101 * 77
            assert (sample["image"][:, padding] == 0).all()
            assert (sample["target"][padding] == IGNORE_INDEX).all()


def test_image_keeps_its_color_up_to_its_border() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    for seed in range(10):
        sample = apply(RandomScaleCropFlip(100, (0.5, 2.0)), image, [], seed)
        assert (sample["image"][:, sample["valid"]] == 200).all()


def test_identity_and_mirror_are_exact() -> None:
    image = np.random.default_rng(1).integers(0, 256, size=(CROP, CROP, 3), dtype=np.uint8)
    mask = image[..., 0] // 13
    click = [Annotation(1, np.array([[3.5, 7.5]])), Annotation(2, np.array([[0.0, 0.0]]))]  # also on the very corner
    for flip, expected in ((0.0, lambda array: array), (1.0, np.fliplr)):
        transform = RandomScaleCropFlip(CROP, (1.0, 1.0), flip)
        sample = apply(transform, image, mask, 0)
        np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), expected(image))
        np.testing.assert_array_equal(sample["target"], expected(mask))
        assert sample["valid"].all()
        assert sample["name"] == "name"
        clicked = apply(transform, image, click, 0)["target"]
        np.testing.assert_array_equal(clicked, expected(rasterize(click, (CROP, CROP))))


def test_flip_has_its_probability() -> None:
    transform = RandomScaleCropFlip(CROP, (1.0, 1.0), flip=0.25)
    slopes = [measure(transform, seed)[0] for seed in range(200)]
    assert 30 <= sum(slope[0] < 0 for slope in slopes) <= 70  # 3.2 standard deviations about 50
    assert all(slope[1] > 0 for slope in slopes)


@pytest.mark.parametrize("bounds", [(0.5, 2.0), (0.75, 1.25)])
def test_zoom_keeps_the_aspect_and_fills_its_bounds(bounds: tuple[float, float]) -> None:
    transform = RandomScaleCropFlip(CROP, bounds)
    slopes = np.array([abs(measure(transform, seed)[0]) for seed in range(100)])
    np.testing.assert_allclose(slopes[:, 0], slopes[:, 1], atol=0.02)
    spread = bounds[1] - bounds[0]
    assert bounds[0] - 0.02 < slopes.min() < bounds[0] + 0.1 * spread
    assert bounds[1] - 0.1 * spread < slopes.max() < bounds[1] + 0.02


def test_crop_lies_inside_an_image_that_is_large_enough_and_moves() -> None:
    transform = RandomScaleCropFlip(CROP, (1.0, 2.0), 0.0)
    assert all(apply(transform, coordinates(0), [], seed)["valid"].all() for seed in SEEDS)
    assert len({tuple(measure(transform, seed)[1].round(1)) for seed in SEEDS}) > 0.9 * len(SEEDS)


def test_image_that_is_too_small_is_centered() -> None:
    valid = apply(RandomScaleCropFlip(60, (1.0, 1.0)), coordinates(0), [], 0)["valid"]
    expected = np.zeros((60, 60), dtype=bool)
    expected[12:48, 6:54] = True
    np.testing.assert_array_equal(valid, expected)


def test_clicks_outside_the_image_are_dropped() -> None:
    outside = [Annotation(1, np.array([[x, y]])) for x, y in ((-0.5, 5.0), (5.0, -0.5), (WIDTH + 0.5, 5.0), (5.0, 36))]
    sample = apply(RandomScaleCropFlip(100, (1.0, 1.0), 0.0), coordinates(0), outside, 0, 3)
    assert (sample["target"] == IGNORE_INDEX).all()


@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.9])
def test_stroke_keeps_its_width_at_any_zoom(zoom: float) -> None:
    stroke = [Annotation(1, np.array([[-99.0, 18.2], [99.0, 18.2]]))]
    sample = apply(RandomScaleCropFlip(80, (zoom, zoom), 1.0), coordinates(0), stroke, 0, 3)
    assert set((sample["target"] == 1).sum(0)[sample["valid"].any(0)].tolist()) == {3}


def plainly(
    transform: RandomScaleCropFlip, image: Image, labels: Labels, seed: int, stroke_width: int
) -> list[NDArray[np.generic]]:
    """Make the sample from matrices and whole areas, three channels at once, and annotations moved beforehand."""
    rng, size = np.random.default_rng(seed), (transform.crop, transform.crop)
    zoom = rng.uniform(*transform.scale)
    room = zoom * np.array(image.shape[1::-1]) - transform.crop
    left, top = np.where(room > 0, rng.uniform(size=2) * room, room / 2)
    matrix = np.array([[zoom, 0, -left], [0, zoom, -top], [0, 0, 1]])
    if rng.uniform() < transform.flip:
        matrix = np.array([[-1.0, 0, transform.crop], [0, 1, 0], [0, 0, 1]]) @ matrix
    back, forth = (np.array([[1, 0, offset], [0, 1, offset], [0, 0, 1]]) for offset in (-0.5, 0.5))
    centers = (back @ matrix @ forth)[:2]
    ones = np.ones(image.shape[:2], dtype=np.uint8)
    valid = cv2.warpAffine(ones, centers, size, flags=cv2.INTER_NEAREST).astype(bool)
    warped = cv2.warpAffine(image, centers, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    warped[~valid] = 0
    if not isinstance(labels, list):
        flags = {"flags": cv2.INTER_NEAREST, "borderValue": IGNORE_INDEX}
        return [warped.transpose(2, 0, 1), cv2.warpAffine(labels, centers, size, **flags), valid]
    moved = []
    for annotation in drop_outside(labels, image.shape):
        points = np.floor(annotation.points) + 0.5 if annotation.is_click else annotation.points
        moved.append(Annotation(annotation.label, points @ matrix[:2, :2].T + matrix[:2, 2]))
    clicks = rasterize([annotation for annotation in moved if annotation.is_click], size)
    return [warped.transpose(2, 0, 1), np.where(valid, rasterize(moved, size, stroke_width), clicks), valid]


def test_shortcuts_change_no_bit() -> None:
    """The shortcuts: four channels, only the pixels that are read, lines instead of areas, clicks as plain floats."""
    rng = np.random.default_rng(0)
    zooms = [0.25, 0.3, 1 / 3, 0.5, 0.6, 0.75, 1.0, 1.25, 2.0, 3.0]  # many map pixels halfway between two
    padded = 0
    for seed in range(1000):
        height, width = rng.integers(1, 120, size=2).tolist()
        image = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
        image.flags.writeable = False
        low, high = sorted(rng.uniform(0.1, 4, size=2)) if seed % 2 else 2 * [rng.choice(zooms)]
        crop, stroke_width = int(rng.choice([1, 2, 7, 16, 31, 32, 64])), int(rng.choice([1, 3]))
        transform = RandomScaleCropFlip(crop, (low, high), rng.choice([0.0, 0.5, 1.0]))
        labels: Labels = rng.integers(0, 5, size=(height, width), dtype=np.uint8)
        if seed % 3:
            lengths = rng.choice([1, 1, 1, 4], size=rng.integers(20)) if seed % 3 == 1 else [1] * rng.integers(20)
            ends = [width + 3, height + 3]
            labels = [Annotation(k % 7, rng.uniform(-3, ends, (n, 2)).round(k % 3)) for k, n in enumerate(lengths)]
        sample = apply(transform, image, labels, seed, stroke_width)
        expected = plainly(transform, image, labels, seed, stroke_width)
        for key, array in zip(("image", "target", "valid"), expected, strict=True):
            np.testing.assert_array_equal(sample[key].numpy(), array)
        padded += not sample["valid"].all()
    assert 150 < padded < 850
