from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_modules.palette import colorize, save_palette_png, voc_palette


@pytest.mark.parametrize(
    ("index", "color"),
    [
        (0, (0, 0, 0)),
        (1, (128, 0, 0)),
        (8, (64, 0, 0)),
        (15, (192, 128, 128)),
        (20, (0, 64, 128)),
        (255, (224, 224, 192)),
    ],
)
def test_palette_is_that_of_pascal_voc(index: int, color: tuple[int, int, int]) -> None:
    assert tuple(voc_palette()[index]) == color


def test_every_index_has_its_own_color() -> None:
    assert len(np.unique(voc_palette(), axis=0)) == 256


def test_colorize_looks_each_label_up() -> None:
    colored = colorize(np.array([[0, 15], [255, 1]], dtype=np.uint8))
    assert colored.tolist() == [[[0, 0, 0], [192, 128, 128]], [[224, 224, 192], [128, 0, 0]]]


def test_png_keeps_indices_and_looks_colored(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    save_palette_png(labels, tmp_path / "new" / "folder" / "labels.png")
    with Image.open(tmp_path / "new" / "folder" / "labels.png") as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), labels)
        assert np.array_equal(np.asarray(picture.convert("RGB")), colorize(labels))
