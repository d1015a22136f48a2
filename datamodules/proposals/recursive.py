"""Recursive training on boxes, Khoreva et al., CVPR 2017, Sec. 3.1."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.proposals.boxes import BACKGROUND, BoxLabels, largest_first
from datamodules.proposals.generator import LabelGenerator
from datamodules.transforms import Image


@dataclass(frozen=True)
class RecursiveBoxes(LabelGenerator):
    """Trains on the predictions of the round before, corrected by the boxes.

    A pixel keeps its predicted class if it is in a box of that class; the others become background. If the predicted
    class covers less than ``min_share`` of a box, the box gets its labels of the first round again. The paper also
    sharpens the predictions with a dense CRF, which is left out.

    Args:
        first: Makes the label maps of the first round.
        min_share: Share of the area of a box. The paper has 50 %.
    """

    first: LabelGenerator = field(default_factory=BoxLabels)
    min_share: float = 0.5

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        """Return the label map; see :class:`LabelGenerator`."""
        first = self.first(image, labels, None, rng)
        if probs is None:
            return first
        predicted = probs.argmax(0)
        drawn = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
        for label, region in largest_first(labels, drawn.shape):
            segment = predicted[region] == label
            if segment.mean() < self.min_share:
                drawn[region] = first[region]
            else:
                drawn[region][segment] = label
        return drawn
