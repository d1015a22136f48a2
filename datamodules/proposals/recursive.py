"""Proposals from the network's own predictions in bounding boxes, Khoreva et al., CVPR 2017, Sec. 3.1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.proposals.boxes import BACKGROUND, check_share, largest_first, pixels_in
from datamodules.proposals.generator import LabelGenerator, check_supervision
from datamodules.transforms import Image


@dataclass(frozen=True)
class RecursiveBoxes(LabelGenerator):
    """In the first round another generator, then the predictions of the network, corrected by the boxes.

    The network's class of a pixel is kept if the pixel lies in a box of this class, and otherwise becomes background.
    If the segment of the class in a box is smaller than ``min_share`` of the box, the area of the box is reset to the
    labels of the first round. If boxes overlap, the area of the smaller one is in front.

    The paper also filters the predictions with a dense CRF before each round, which is left out here.

    Args:
        first: Generator of the first round. Later rounds call it again for the boxes that are reset.
        min_share: Smallest IoU of a segment and its box that is accepted. Since no segment leaves its box, it is the
            share of the box that the segment covers.

    Raises:
        InputError: ``first`` does not read boxes, or ``min_share`` is not in [0, 1].
    """

    supervisions = ("boxes",)

    first: LabelGenerator
    min_share: float = 0.5

    def __post_init__(self) -> None:
        check_share("min_share", self.min_share)
        check_supervision(self.first, "boxes")

    def __call__(
        self,
        image: Image,
        labels: list[Annotation],
        probs: NDArray[np.float32] | None,
        rng: np.random.Generator,
    ) -> LabelMap:
        """Return uint8 (H, W), class index or 255."""
        if probs is None:
            return self.first(image, labels, None, rng)
        boxes = [(box.label, pixels_in(box.points, image.shape)) for box in largest_first(labels)]
        predicted = probs.argmax(0).astype(np.uint8)
        kept = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
        for label, inside in boxes:
            kept[inside][predicted[inside] == label] = label
        covered = [np.mean(kept[inside] == label) if kept[inside].size else 1.0 for label, inside in boxes]
        if all(share >= self.min_share for share in covered):
            return kept
        start = self.first(image, labels, None, rng)
        proposal = kept.copy()
        for (_, inside), share in zip(boxes, covered, strict=True):
            proposal[inside] = (kept if share >= self.min_share else start)[inside]
        return proposal
