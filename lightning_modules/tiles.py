"""Tiles of images that are too large for one pass."""

from collections.abc import Iterator
from itertools import pairwise

AREA = 2**21  # pixels of the largest image that is predicted at once
SIDE = 1024  # pixels of a tile, about
MARGIN = 128  # pixels of context around a tile
STEP = 32  # tiles begin at multiples of the output stride, so that features lie where those of the whole image do

Part = tuple[slice, slice]
"""Rows and columns of an image."""


def tiles(height: int, width: int, at_once: bool = False) -> Iterator[tuple[Part, Part, Part]]:
    """Cut a large image into tiles that a network sees with some context.

    Args:
        height: H, pixels.
        width: W, pixels.
        at_once: Return a single tile, whatever its size.

    Yields:
        The tile; the tile with its margins, cut at the border of the image; and the tile within those margins.
    """
    at_once = at_once or height * width <= AREA
    for top, bottom in _cuts(height, at_once):
        for left, right in _cuts(width, at_once):
            rows, columns = _extend(top, bottom, height), _extend(left, right, width)
            inner = (slice(top - rows.start, bottom - rows.start), slice(left - columns.start, right - columns.start))
            yield (slice(top, bottom), slice(left, right)), (rows, columns), inner


def _cuts(length: int, at_once: bool) -> list[tuple[int, int]]:
    """Return the first pixel of each tile along one axis, and the first pixel after it."""
    parts = 1 if at_once else -(-length // SIDE)
    places = [length * k // parts // STEP * STEP for k in range(parts)] + [length]
    return list(pairwise(places))


def _extend(start: int, stop: int, length: int) -> slice:
    return slice(max(0, start - MARGIN), min(length, stop + MARGIN))
