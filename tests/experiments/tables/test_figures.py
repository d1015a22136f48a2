import numpy as np
import pytest

from experiments.tables.figures import kernel_mosaic
from lightning_modules.weak_segmentation import IMAGENET_STD


def test_kernels_of_a_flat_image_are_spatial_gaussians() -> None:
    mosaic = kernel_mosaic(np.full((12, 24, 3), 90, dtype=np.uint8), radius=1, stride=4)
    neighbor, corner = np.exp(-1 / 72), np.exp(-2 / 72)
    window = np.array([[corner, neighbor, corner], [neighbor, 1, neighbor], [corner, neighbor, corner]])
    np.testing.assert_allclose(mosaic, np.hstack([window, window]), rtol=1e-6)


def test_kernels_follow_equation_2_on_averaged_colors() -> None:
    image = np.random.default_rng(0).integers(100, 120, size=(12, 12, 3)).astype(np.uint8)
    mosaic = kernel_mosaic(image, radius=1, stride=4)
    cells = image.reshape(3, 4, 3, 4, 3).mean(axis=(1, 3)) / IMAGENET_STD
    for y in range(3):
        for x in range(3):
            color = (((cells[y, x] - cells[1, 1]) / 0.1) ** 2).sum()
            space = ((y - 1) ** 2 + (x - 1) ** 2) / 36
            assert mosaic[y, x] == pytest.approx(np.exp(-(color + space) / 2), rel=1e-3)


def test_incomplete_windows_are_left_out() -> None:
    assert kernel_mosaic(np.zeros((50, 95, 3), dtype=np.uint8), radius=5, stride=4).shape == (11, 22)
