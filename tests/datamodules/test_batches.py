"""Whole images of equal size share a batch."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from datamodules.batches import MAX_IMAGES, MAX_PIXELS, ImageBatches, batches_of_equal_size
from datamodules.dataset import SegmentationDataset, WholeImages


@pytest.mark.parametrize("ranks", [1, 3])
def test_batches_hold_each_image_once_and_are_as_few_as_possible(ranks: int) -> None:
    """Sizes of few and many pixels; the last two exceed the limit by themselves."""
    sizes = [(10, 20), (20, 10), (375, 500), (1024, 2048), (3000, 4000)]
    capacities = [MAX_IMAGES, MAX_IMAGES, MAX_PIXELS // (375 * 500), 1, 1]
    assert capacities == [16, 16, 2, 1, 1]
    drawn = np.random.default_rng(0).integers(len(sizes), size=200).tolist()
    shapes = [sizes[kind] for kind in drawn]
    seen = []
    for rank in range(ranks):
        share = range(rank, len(shapes), ranks)
        batches = batches_of_equal_size(share, shapes)
        assert [batch[0] for batch in batches] == sorted(batch[0] for batch in batches)
        assert all(batch == sorted(batch) for batch in batches)
        kinds = [{drawn[index] for index in batch} for batch in batches]
        assert all(len(kind) == 1 for kind in kinds)
        counts = Counter(drawn[index] for index in share)
        fewest = {kind: -(-count // capacities[kind]) for kind, count in counts.items()}
        assert Counter(kind for (kind,) in kinds) == fewest
        seen += [index for batch in batches for index in batch]
    assert sorted(seen) == list(range(200))


def test_single_image_is_a_batch() -> None:
    assert batches_of_equal_size([3], [(1, 1)] * 4) == [[3]]
    assert batches_of_equal_size([], []) == []


def test_indices_give_their_collated_images(arrays: Callable[..., SegmentationDataset]) -> None:
    images = [np.full((4, 6, 3), index, dtype=np.uint8) for index in range(3)]
    batch = ImageBatches(WholeImages(arrays(images, [None] * 3, [[]] * 3)))[[2, 0]]
    assert batch["name"] == ["image2", "image0"]
    assert torch.equal(batch["image"], torch.tensor([2, 0], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 6))
    assert (batch["target"].shape, batch["valid"].shape) == ((2, 4, 6), (2, 4, 6))
