"""Batches of whole images of equal size, for evaluation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset, default_collate

from datamodules.dataset import WholeImages
from datamodules.sample import Sample

MAX_PIXELS, MAX_IMAGES = 2**19, 16
"""Of a batch, for example two images of VOC. Larger batches of CamVid were slower on a CPU than single images."""


@dataclass(frozen=True)
class ImageBatches(Dataset[Sample]):
    """Evaluation view of whole images. A list of indices gives their batch.

    Args:
        images: Whole images.
    """

    images: WholeImages

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> Sample:
        """Return the collated images, which have the same size."""
        batch: Sample = default_collate([self.images[index] for index in indices])
        return batch


def batches_of_equal_size(indices: Iterable[int], shapes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Divide images into batches, ordered by their first image.

    Args:
        indices: The images.
        shapes: (H, W) of each image by index.

    Returns:
        Each index once, with images of one (H, W) per batch and at most MAX_IMAGES and MAX_PIXELS, or one image.
    """
    batches = list[list[int]]()
    unfilled = dict[tuple[int, int], list[int]]()
    for index in indices:
        height, width = shape = shapes[index]
        batch = unfilled.get(shape, [])
        if not batch:
            batches.append(batch)
        batch.append(index)
        full = len(batch) == MAX_IMAGES or (len(batch) + 1) * height * width > MAX_PIXELS
        unfilled[shape] = [] if full else batch
    return batches
