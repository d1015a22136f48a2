"""Scale of the crop window, as in the authors' code, and the number of clicks in a crop of VOC."""

import os
from pathlib import Path

import numpy as np
import pytest

from datamodules.cityscapes.datamodule import CityscapesDataModule
from datamodules.io.click_files import merge, read_clicks
from datamodules.transforms import RandomScaleCropFlip
from datamodules.voc.datamodule import CLICK_FILES, VOCDataModule

FOLDER = os.environ.get("GATEDCRF_VOC_CLICKS")
CROP, DRAWS = 256, 5_000


def test_window_scale_is_uniform_in_the_window_else_in_the_zoom() -> None:
    rng = np.random.default_rng(0)
    for window_scale, power in ((False, 1), (True, -1)):
        transform = RandomScaleCropFlip(CROP, flip=0.0, window_scale=window_scale)
        zooms = [transform.draw_matrix(375, 500, rng)[0, 0] for _ in range(DRAWS)]
        uniform = np.power(zooms, power)
        assert uniform.min() >= 0.5
        assert uniform.max() <= 2
        np.testing.assert_allclose(np.quantile(uniform, [0.1, 0.5, 0.9]), [0.65, 1.25, 1.85], atol=0.03)


@pytest.mark.parametrize("datamodule", [VOCDataModule, CityscapesDataModule])
def test_datasets_use_the_given_augmentation(
    tmp_path: Path, datamodule: type[VOCDataModule | CityscapesDataModule]
) -> None:
    assert datamodule(
        str(tmp_path), augmentation=RandomScaleCropFlip(CROP, window_scale=True)
    ).augmentation.window_scale
    assert not datamodule(str(tmp_path)).augmentation.window_scale


@pytest.mark.skipif(FOLDER is None, reason="GATEDCRF_VOC_CLICKS is not set")
def test_crops_of_voc_have_as_many_clicks_as_in_the_authors_code() -> None:
    """3.17 clicks per crop and 9.4 % of crops without clicks, for 5.467 clicks per image. This also counts val."""
    classes = {label: label for label in range(21)}
    files = [read_clicks(Path(FOLDER or "") / name, classes) for name in CLICK_FILES]
    names, clicks = sorted(set(files[0]) & set(files[1])), merge(files)
    transform, rng, held = RandomScaleCropFlip(CROP, window_scale=True), np.random.default_rng(0), []
    for _ in range(DRAWS):
        points = np.concatenate([click.points for click in clicks[names[rng.integers(len(names))]]])
        upright = (points[:, 1] > 375).any() and not (points[:, 0] > 375).any()
        width, height = (375, 500) if upright else (500, 375)
        points = points[(points < [width, height]).all(1)]
        matrix = transform.draw_matrix(height, width, rng)
        moved = points @ matrix[:2, :2].T + matrix[:2, 2]
        held.append(int(((moved >= 0) & (moved < CROP)).all(1).sum()))
    per_image = sum(len(clicks[name]) for name in names) / len(names)
    assert np.mean(held) * 5.467 / per_image == pytest.approx(3.17, abs=4 * np.std(held) / DRAWS**0.5)
    assert np.mean(np.equal(held, 0)) == pytest.approx(0.094, abs=4 * (0.094 * 0.906 / DRAWS) ** 0.5)
