import numpy as np
import pytest

from lightning_modules.callbacks.confusion_picture import ABSENT, CELL, DARK, MARGIN, draw_confusion

NAMES = [*("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow")]
NAMES += [*("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")]


@pytest.mark.parametrize("classes", [2, 6, 21])
def test_cells_are_as_dark_as_their_share_of_the_row(classes: int) -> None:
    """Read at the upper left corners of the cells, which hold no number; row 1 is grey and tells where they begin."""
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 9, size=(classes, classes)) + 50 * np.eye(classes, dtype=int)
    confusion[1] = 0
    picture = np.array(draw_confusion(confusion, NAMES[:classes], ""))
    top = picture.shape[0] - MARGIN - classes * CELL
    left = int(np.flatnonzero((picture[top + CELL] == ABSENT).all(1))[0])
    for row in range(classes):
        for column in range(classes):
            pixel = picture[top + row * CELL + 1, left + column * CELL + 1]
            share = confusion[row, column] / max(confusion[row].sum(), 1)
            expected = 255 + share * (np.array(DARK) - 255) if row != 1 else ABSENT
            np.testing.assert_allclose(pixel, expected, atol=1)


def test_long_title_fits() -> None:
    short, long = (draw_confusion(np.eye(2, dtype=int), ["a", "b"], title) for title in ("", 9 * "sliding window, "))
    assert long.width > short.width
    assert (np.array(long)[:, -MARGIN:] == 255).all()
