"""Superpixels, their neighbors and histograms against loops over pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.proposals.superpixels import (
    color_histograms,
    find_neighbors,
    find_superpixels,
    split_at_labels,
    texture_histograms,
)

SUPERPIXELS = np.random.default_rng(0).integers(0, 5, (4, 5)).repeat(2, 0).repeat(3, 1)
IMAGE = np.random.default_rng(1).integers(0, 256, (*SUPERPIXELS.shape, 3), dtype=np.uint8)


def test_superpixels_follow_the_edges_of_flat_patches() -> None:
    patches = np.arange(12).reshape(3, 4).repeat(10, 0).repeat(12, 1)
    colors = np.random.default_rng(2).permutation(12) * 20
    image = np.repeat(colors[patches][..., None], 3, axis=2).astype(np.uint8)
    found = find_superpixels(image, scale=50, min_size=20)
    centers = [(y, x) for y in (5, 15, 25) for x in (6, 18, 30, 42)]
    assert len({found[center] for center in centers}) == 12
    for y, x in centers:
        assert len(np.unique(found[y - 2 : y + 2, x - 3 : x + 3])) == 1


def test_scale_and_least_size_make_larger_superpixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    counts = [find_superpixels(image, *options).max() for options in ((50, 20), (500, 20), (50, 80))]
    assert counts[1] < counts[0]
    assert counts[2] < counts[0]
    assert np.bincount(find_superpixels(image, 50, 80).ravel()).min() >= 80


def test_neighbors_share_a_side_of_a_pixel() -> None:
    expected = set()
    height, width = SUPERPIXELS.shape
    for y, x in np.ndindex(height, width):
        for other_y, other_x in ((y + 1, x), (y, x + 1)):
            if other_y < height and other_x < width and SUPERPIXELS[y, x] != SUPERPIXELS[other_y, other_x]:
                expected.add(tuple(sorted((int(SUPERPIXELS[y, x]), int(SUPERPIXELS[other_y, other_x])))))
    assert find_neighbors(SUPERPIXELS).tolist() == sorted(map(list, expected))


def test_color_histograms_are_percentages_of_25_bins_per_channel() -> None:
    expected = np.zeros((5, 3, 25))
    for y, x in np.ndindex(*SUPERPIXELS.shape):
        for channel in range(3):
            share = 100 / 3 / np.count_nonzero(SUPERPIXELS[y, x] == SUPERPIXELS)
            expected[SUPERPIXELS[y, x], channel, int(IMAGE[y, x, channel] / 256 * 25)] += share
    assert np.allclose(color_histograms(IMAGE, SUPERPIXELS), expected.reshape(5, 75))


def test_texture_histograms_are_percentages_of_10_bins_per_direction() -> None:
    gray = IMAGE[..., 0].astype(int)
    padded = np.pad(gray, 1, mode="reflect")
    gradients: NDArray[np.int64] = np.stack(
        [abs(padded[1:-1, 2:] - padded[1:-1, :-2]), abs(padded[2:, 1:-1] - padded[:-2, 1:-1])]
    )
    expected = np.zeros((5, 2, 10))
    for direction, y, x in np.ndindex(*gradients.shape):
        share = 100 / 2 / np.count_nonzero(SUPERPIXELS[y, x] == SUPERPIXELS)
        size = gradients[direction, y, x] / gradients.max()
        expected[SUPERPIXELS[y, x], direction, min(9, int(10 * size))] += share
    found = texture_histograms(np.repeat(IMAGE[..., :1], 3, axis=2), SUPERPIXELS)
    assert np.allclose(found, expected.reshape(5, 20))


def test_flat_image_has_no_gradient() -> None:
    histograms = texture_histograms(np.full_like(IMAGE, 9), SUPERPIXELS)
    assert histograms[0].tolist() == 2 * [50, *9 * [0]]


@pytest.mark.parametrize("seed", range(5))
def test_superpixel_with_strokes_of_several_classes_is_split_at_the_nearest_stroke(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strokes = np.full(SUPERPIXELS.shape, 255, dtype=np.uint8)
    for _ in range(8):
        strokes[rng.integers(8), rng.integers(15)] = rng.integers(1, 4)
    parts = split_at_labels(SUPERPIXELS, strokes)
    assert np.array_equal(np.unique(parts), np.arange(parts.max() + 1))
    for number in range(5):
        pixels = np.argwhere(number == SUPERPIXELS)
        drawn = [(y, x) for y, x in pixels if strokes[y, x] != 255]
        classes = {int(strokes[pixel]) for pixel in drawn}
        assert len({int(parts[y, x]) for y, x in pixels}) == max(1, len(classes))
        if len(classes) > 1:
            part_of = {int(strokes[pixel]): int(parts[pixel]) for pixel in drawn}
            for y, x in pixels:
                distances = {pixel: (pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 for pixel in drawn}
                nearest = [pixel for pixel in drawn if distances[pixel] == min(distances.values())]
                assert int(parts[y, x]) in {part_of[int(strokes[pixel])] for pixel in nearest}
