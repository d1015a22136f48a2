"""The label map of one image."""

from collections.abc import Callable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.proposals.generator import LabelGenerator
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

Predict = Callable[[Image], NDArray[np.float32]]
"""Maps an image, uint8 (H, W, 3), to class probabilities, float32 (C, H, W)."""


def propose(
    generator: LabelGenerator, dataset: SegmentationDataset, index: int, predict: Predict | None = None
) -> LabelMap:
    """Return the label map that a generator makes for an image, uint8 (H, W). Hidden pixels are 255."""
    labels, name, image = annotations(dataset, index), dataset.name(index), dataset.image(index)
    rng = np.random.default_rng(crc32(name.encode()))
    proposal = generator(image, labels, None if predict is None else predict(image), rng)
    if (hidden := dataset.hidden(index)) is not None:
        proposal[hidden] = IGNORE_INDEX
    return proposal


def annotations(dataset: SegmentationDataset, index: int) -> list[Annotation]:
    """Return the weak labels of an image as annotations.

    Raises:
        InputError: They are a label map.
    """
    labels = dataset.weak_labels(index)
    if not isinstance(labels, list):
        remedy = "proposals are made from clicks, scribbles or boxes: choose another supervision or rasterize later"
        raise InputError(f"The labels of {dataset.name(index)} are a label map; {remedy}.")
    return labels
