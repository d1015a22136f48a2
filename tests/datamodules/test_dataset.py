"""The two views of a dataset."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from datamodules.annotations import Annotation
from datamodules.dataset import AugmentedCrops, SegmentationDataset, WholeImages
from datamodules.sample import Sample
from datamodules.sampler import Draw
from datamodules.transforms import RandomScaleCropFlip


@pytest.fixture
def dataset(arrays: Callable[..., SegmentationDataset]) -> SegmentationDataset:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size=(20, 26, 3), dtype=np.uint8) for _ in range(3)]
    masks = [rng.integers(0, 3, size=(20, 26), dtype=np.uint8), None, np.full((20, 26), 255, dtype=np.uint8)]
    return arrays(images, masks, [[Annotation(1, np.array([[5.5, 5.5]]))], masks[0], []])


def same(a: Sample, b: Sample) -> bool:
    return a["name"] == b["name"] and all(torch.equal(a[key], b[key]) for key in ("image", "target", "valid"))


def test_item_is_a_function_of_seed_epoch_and_position_alone(dataset: SegmentationDataset) -> None:
    crops = AugmentedCrops(dataset, RandomScaleCropFlip(16), seed=1)
    first = crops[Draw(1, 2, 0)]
    assert same(crops[Draw(1, 2, 0)], first)
    crops[Draw(0, 0, 1)]
    np.random.seed(0)
    torch.manual_seed(0)
    assert same(crops[Draw(1, 2, 0)], first)
    assert first["name"] == "image1"


@pytest.mark.parametrize(("seed", "draw"), [(2, Draw(1, 2, 0)), (1, Draw(1, 3, 0)), (1, Draw(1, 2, 1))])
def test_seed_epoch_and_position_each_change_the_crop(dataset: SegmentationDataset, seed: int, draw: Draw) -> None:
    transform = RandomScaleCropFlip(16)
    reference = AugmentedCrops(dataset, transform, seed=1)[Draw(1, 2, 0)]
    assert not torch.equal(AugmentedCrops(dataset, transform, seed)[draw]["image"], reference["image"])


def test_crops_have_the_types_and_shapes_of_a_sample(dataset: SegmentationDataset) -> None:
    for index in range(3):
        sample = AugmentedCrops(dataset, RandomScaleCropFlip(16), seed=0)[Draw(index, 0, index)]
        assert (sample["image"].dtype, sample["image"].shape) == (torch.uint8, (3, 16, 16))
        assert (sample["target"].dtype, sample["target"].shape) == (torch.uint8, (16, 16))
        assert (sample["valid"].dtype, sample["valid"].shape) == (torch.bool, (16, 16))


def test_whole_image_has_dense_truth_and_is_valid(dataset: SegmentationDataset) -> None:
    whole = WholeImages(dataset)
    assert len(whole) == 3
    sample = whole[0]
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), dataset.image(0))
    np.testing.assert_array_equal(sample["target"], dataset.dense_mask(0))
    assert sample["valid"].shape == (20, 26)
    assert sample["valid"].all()
    assert sample["name"] == "image0"


def test_mask_of_another_size_is_refused_by_name(arrays: Callable[..., SegmentationDataset]) -> None:
    images, masks = [np.zeros((4, 6, 3), dtype=np.uint8)], [np.zeros((6, 4), dtype=np.uint8)]
    with pytest.raises(ValueError, match=r"image0 has labels of \(H, W\) \(6, 4\), but an image of \(4, 6\)"):
        WholeImages(arrays(images, masks, [[]]))[0]


def test_image_without_a_mask_has_no_labeled_pixel(dataset: SegmentationDataset) -> None:
    target = WholeImages(dataset)[1]["target"]
    assert (target.dtype, target.shape) == (torch.uint8, (20, 26))
    assert (target == 255).all()
