"""Tiles cover an image once, with context around them."""

import numpy as np
import pytest

from lightning_modules.tiles import AREA, MARGIN, STEP, tiles


@pytest.mark.parametrize("shape", [(3000, 4000), (1500, 1501), (40, 60000), (2100, 1025)])
def test_each_pixel_is_in_one_tile_and_has_its_context(shape: tuple[int, int]) -> None:
    times = np.zeros(shape, dtype=int)
    places = np.arange(times.size).reshape(shape)
    for (rows, columns), (outer_rows, outer_columns), inner in tiles(*shape):
        times[rows, columns] += 1
        np.testing.assert_array_equal(places[outer_rows, outer_columns][inner], places[rows, columns])
        for part, outer, length in ((rows, outer_rows, shape[0]), (columns, outer_columns, shape[1])):
            assert outer.start == max(0, part.start - MARGIN)
            assert outer.stop == min(length, part.stop + MARGIN)
            assert outer.start % STEP == 0
        assert (rows.stop - rows.start) * (columns.stop - columns.start) <= AREA
    assert (times == 1).all()


@pytest.mark.parametrize(("shape", "at_once"), [((1024, 2048), False), ((3000, 4000), True)])
def test_image_of_moderate_size_is_a_single_tile(shape: tuple[int, int], at_once: bool) -> None:
    whole = (slice(0, shape[0]), slice(0, shape[1]))
    assert list(tiles(*shape, at_once=at_once)) == [(whole, whole, whole)]
