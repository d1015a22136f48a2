"""Saliency is the distance of a color to the mean color; files hold 8 bits of gray."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from skimage.color import rgb2lab

from datamodules.io.errors import InputError
from datamodules.proposals import frequency_tuned_saliency, read_objectness


def test_saliency_is_the_distance_in_lab_of_the_blurred_to_the_mean_color() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    lab = rgb2lab(image)
    padded = np.pad(lab, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    kernel = [1, 4, 6, 4, 1]
    expected = np.zeros((9, 11))
    for y, x in np.ndindex(9, 11):
        color = sum(kernel[i] * kernel[j] / 256 * padded[y + i, x + j] for i in range(5) for j in range(5))
        expected[y, x] = np.sqrt(((color - lab.reshape(-1, 3).mean(0)) ** 2).sum())
    saliency = frequency_tuned_saliency(image)
    assert saliency.dtype == np.float32
    assert np.allclose(saliency, expected / expected.max(), atol=5e-3)
    assert saliency.max() == 1


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (201, 13, 77)])
def test_image_of_one_color_is_not_salient(color: tuple[int, int, int]) -> None:
    saliency = frequency_tuned_saliency(np.full((30, 40, 3), color, dtype=np.uint8))
    assert saliency.shape == (30, 40)
    assert not saliency.any()


def test_file_holds_the_objectness_in_255ths(tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(8, 32)
    PILImage.fromarray(gray).save(tmp_path / "a.png")
    objectness = read_objectness(tmp_path / "a.png", (8, 32))
    assert objectness.dtype == np.float32
    assert np.allclose(objectness * 255, gray)
    assert (objectness.min(), objectness.max()) == (0, 1)


@pytest.mark.parametrize(
    ("name", "mode", "shape", "message"),
    [
        ("a.png", "RGB", (8, 32), "PNG of mode RGB; export it as a PNG with 8 bits"),
        ("a.png", "I;16", (8, 32), "mode I;16"),
        ("a.png", "P", (8, 32), "mode P"),
        ("a.jpg", "L", (8, 32), "JPEG of mode L"),
        ("a.png", "L", (32, 8), "32 x 8 pixels, and its image 8 x 32"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, mode: str, shape: tuple[int, int], message: str) -> None:
    PILImage.new(mode, (32, 8)).save(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_objectness(tmp_path / name, shape)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.png cannot be read as an objectness map"):
        read_objectness(tmp_path / "b.png", (8, 32))
