"""The label map of one image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.proposals import LabelGenerator
from datamodules.proposals.propose import propose
from datamodules.transforms import Image


@dataclass(frozen=True)
class Noise(LabelGenerator):
    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        return rng.integers(0, 4, image.shape[:2], dtype=np.uint8)


def test_randomness_depends_on_the_name_of_the_image_alone(arrays: Callable[..., Any]) -> None:
    """So neither the order of the images nor their distribution over processes matters."""
    dataset = arrays([np.zeros((6, 8, 3), dtype=np.uint8)] * 2, [None] * 2, [[], []])
    for index in (1, 0, 1):
        expected = np.random.default_rng(crc32(f"image{index}".encode())).integers(0, 4, (6, 8), dtype=np.uint8)
        np.testing.assert_array_equal(propose(Noise(), dataset, index), expected)
