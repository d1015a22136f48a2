"""Predictions of images, batches, files and folders against the forward pass of the model."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor, nn

from datamodules.io.errors import InputError
from lightning_modules import tiles
from lightning_modules.inference import Inference
from lightning_modules.palette import voc_palette
from lightning_modules.predictor import Predictor
from lightning_modules.weak_segmentation import WeakSegmentation

Picture = NDArray[np.uint8]


def make_predictor(network: nn.Module | None = None, max_side: int | None = None, **options: Any) -> Predictor:
    """Return a predictor of a random convolution with logits at a quarter of the size, for three classes."""
    torch.manual_seed(0)
    layers = network or nn.Conv2d(3, 3, 7, stride=4, padding=3)
    return Predictor(WeakSegmentation(layers, nn.Identity(), ["a", "b", "c"], **options), max_side)


def picture(height: int = 37, width: int = 50, seed: int = 0) -> Picture:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST))


def forward(predictor: Predictor, image: Picture) -> Tensor:
    with torch.inference_mode():
        return predictor.model(torch.from_numpy(image).permute(2, 0, 1)[None])[0]


def test_classes_and_probabilities_are_those_of_the_model() -> None:
    predictor, image = make_predictor(), picture()
    probs = forward(predictor, image)
    np.testing.assert_array_equal(predictor.predict(image, probabilities=True), probs)
    classes = predictor.predict(image)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, probs.argmax(0))
    assert len(np.unique(classes)) == 3


def test_every_kind_of_source_gives_the_same_classes(tmp_path: Path) -> None:
    predictor, images = make_predictor(), [picture(), picture(seed=1)]
    expected = [predictor.predict(image) for image in images]
    for index, image in enumerate(images):
        PILImage.fromarray(image).save(tmp_path / f"{index}.png")
    np.testing.assert_array_equal(predictor.predict(np.stack(images)), expected)
    np.testing.assert_array_equal(predictor.predict(PILImage.fromarray(images[0])), expected[0])
    np.testing.assert_array_equal(predictor.predict(tmp_path / "0.png"), expected[0])
    np.testing.assert_array_equal(predictor.predict(str(tmp_path / "1.png")), expected[1])
    paths, maps = zip(*predictor.predict(tmp_path), strict=True)
    assert [path.name for path in paths] == ["0.png", "1.png"]
    np.testing.assert_array_equal(maps, expected)


def test_reduced_images_are_predicted_at_their_own_size() -> None:
    """The image is halved as in training. Then its probabilities are enlarged, and the largest one counts."""
    predictor, image = make_predictor(max_side=40), picture(60, 80)
    small = np.asarray(cv2.resize(image, (40, 30), interpolation=cv2.INTER_AREA))
    probs = nn.functional.interpolate(forward(predictor, small)[None], (60, 80), mode="bilinear")[0]
    np.testing.assert_array_equal(predictor.predict(image, probabilities=True), probs)
    np.testing.assert_array_equal(predictor.predict(image), probs.argmax(0))


def test_tiles_give_the_classes_of_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receptive field of the network is smaller than the margin, so tiles are exact but for the interpolation."""
    predictor, image = make_predictor(), picture(200, 300)
    whole, probs = predictor.predict(image), predictor.predict(image, probabilities=True)
    for name, value in (("AREA", 1000), ("SIDE", 64), ("MARGIN", 32)):
        monkeypatch.setattr(tiles, name, value)
    assert len(list(tiles.tiles(200, 300))) == 20
    np.testing.assert_array_equal(predictor.predict(image), whole)
    np.testing.assert_allclose(predictor.predict(image, probabilities=True), probs, atol=1e-6)


def test_pixels_outside_a_center_crop_are_unlabeled() -> None:
    predictor = make_predictor(inference=Inference(crop=32))
    for max_side in (None, 40):
        predictor.max_side = max_side
        classes = predictor.predict(picture(60, 80))
        assert (classes == 255).any()
        assert (classes[25:35, 35:45] < 3).all()


def test_overlay_mixes_the_colors_half_and_half_and_outlines_the_classes() -> None:
    predictor, image = make_predictor(), np.full((4, 6, 3), 100, dtype=np.uint8)
    classes = np.array([[0, 0, 1, 1, 255, 255]] * 4, dtype=np.uint8)
    overlay = predictor.overlay(image, classes)
    assert (overlay[:, 1] == 50).all()
    assert (overlay[:, 3] == 50 + voc_palette()[1] // 2).all()
    assert (overlay[:, [2, 4]] == 255).all()
    assert (overlay[:, 5] == 100).all()


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), dtype=np.float32), np.zeros((4, 4), dtype=np.uint8)])
def test_other_arrays_are_refused(image: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"give RGB, uint8"):
        make_predictor().predict(image)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jpg"):
        make_predictor().predict(tmp_path / "none.jpg")
