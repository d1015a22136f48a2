"""Tags, objectness and ranks of a sample."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from datamodules.annotations import Annotation
from datamodules.dataset import AugmentedCrops
from datamodules.extra_inputs import ExtraInputs
from datamodules.io.errors import InputError
from datamodules.proposals import frequency_tuned_saliency
from datamodules.sample import Sample
from datamodules.sampler import Draw
from datamodules.transforms import RandomScaleCropFlip

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
CLICKS = [
    Annotation(2, np.array([[4.5, 6.5]]), rank=1),
    Annotation(1, np.array([[20.5, 10.5]])),
    Annotation(3, np.empty((0, 2))),
]


def crop(arrays: Callable[..., Any], labels: Any, extra: ExtraInputs | None, **options: Any) -> Sample:
    augmentation = RandomScaleCropFlip(32, **{"scale": (0.6, 1.5), **options})
    dataset = arrays([IMAGE], [None], [labels])
    return AugmentedCrops(dataset, augmentation, seed=3, extra_inputs=extra)[Draw(0, 1, 0)]


def test_samples_have_them_only_on_request(arrays: Callable[..., Any]) -> None:
    plain = crop(arrays, CLICKS, None)
    assert plain.keys() == Sample.__required_keys__
    full = crop(arrays, CLICKS, ExtraInputs(("tags", "objectness", "ranks"), 5))
    assert full.keys() == Sample.__required_keys__ | Sample.__optional_keys__
    assert all(torch.equal(plain[key], full[key]) for key in ("image", "target", "valid"))  # type: ignore[literal-required]


def test_tags_are_the_classes_of_the_whole_image(arrays: Callable[..., Any]) -> None:
    tags = crop(arrays, CLICKS, ExtraInputs(("tags",), 5))["tags"]
    assert tags.tolist() == [False, True, True, True, False]
    dense = np.full((24, 32), 255, dtype=np.uint8)
    dense[0, 0] = 4
    assert crop(arrays, dense, ExtraInputs(("tags",), 5))["tags"].tolist() == [False] * 4 + [True]


def test_ranks_are_at_the_clicks_and_0_at_other_labels(arrays: Callable[..., Any]) -> None:
    sample = crop(arrays, CLICKS, ExtraInputs(("ranks",), 5))
    assert (sample["target"] != 255).sum() == 2
    expected = torch.tensor([255, 0, 1] + [255] * 253, dtype=torch.uint8)[sample["target"].long()]
    assert torch.equal(sample["ranks"], expected)
    dense = np.full((24, 32), 255, dtype=np.uint8)
    dense[:12] = 3
    sample = crop(arrays, dense, ExtraInputs(("ranks",), 5))
    assert torch.equal(sample["ranks"] == 0, sample["target"] == 3)


def test_objectness_is_warped_as_the_image_is(arrays: Callable[..., Any], tmp_path: Path) -> None:
    """The objectness is the red channel of the image. It is 0 in padding."""
    PILImage.fromarray(IMAGE[..., 0]).save(tmp_path / "image0.png")
    sample = crop(arrays, CLICKS, ExtraInputs(("objectness",), 5, tmp_path))
    assert not sample["valid"].all()
    torch.testing.assert_close(sample["objectness"], sample["image"][0] / 255)


def test_objectness_is_saliency_without_a_folder(arrays: Callable[..., Any]) -> None:
    options = {"scale": (1.0, 1.0), "flip": 0.0}
    sample = crop(arrays, CLICKS, ExtraInputs(("objectness",), 5), **options)
    inside = sample["objectness"][sample["valid"]].reshape(24, 32)
    torch.testing.assert_close(inside, torch.from_numpy(frequency_tuned_saliency(IMAGE)), atol=1 / 255, rtol=0)


def test_missing_maps_and_unknown_inputs_are_named(arrays: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image0\.png"):
        crop(arrays, CLICKS, ExtraInputs(("objectness",), 5, tmp_path))
    with pytest.raises(InputError, match="reads depth; samples have tags, objectness, ranks"):
        ExtraInputs(("depth",), 5)
