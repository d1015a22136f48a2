"""Fields of a sample that only some losses read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.io.errors import InputError
from datamodules.proposals.objectness import frequency_tuned_saliency, read_objectness
from datamodules.sample import IGNORE_INDEX, Sample
from datamodules.transforms import Image, Labels

NAMES = ("tags", "objectness", "ranks")


@dataclass(frozen=True)
class ExtraInputs:
    """Adds optional fields to a sample; see :class:`~datamodules.sample.Sample`.

    Args:
        names: Some of ``NAMES``.
        num_classes: C.
        objectness: Folder of objectness maps NAME.png. ``None`` computes frequency-tuned saliency.

    Raises:
        InputError: A name is unknown.
    """

    names: tuple[str, ...]
    num_classes: int
    objectness: Path | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.names) - set(NAMES):
            raise InputError(f"A loss reads {', '.join(sorted(unknown))}; samples have {', '.join(NAMES)}.")

    def add(self, sample: Sample, image: Image, labels: Labels, warp: Callable[[Image, Labels], Sample]) -> None:
        """Add the fields.

        Args:
            sample: The crop.
            image: The whole image, uint8 (H, W, 3).
            labels: Its labels.
            warp: Makes a crop of any image and labels in the same way as ``sample`` was made.
        """
        if "tags" in self.names:
            sample["tags"] = torch.zeros(self.num_classes, dtype=torch.bool)
            sample["tags"][sorted(classes_of(labels))] = True
        if "objectness" in self.names or "ranks" in self.names:
            objectness = image
            if "objectness" in self.names:
                gray = np.rint(255 * self._objectness(image, sample["name"])).astype(np.uint8)
                objectness = np.repeat(gray[..., None], 3, axis=2)
            warped = warp(objectness, _ranks(labels))
            if "objectness" in self.names:
                sample["objectness"] = warped["image"][0] / 255
            if "ranks" in self.names:
                sample["ranks"] = warped["target"]

    def _objectness(self, image: Image, name: str) -> NDArray[np.float32]:
        if self.objectness is None:
            return frequency_tuned_saliency(image)
        return read_objectness(self.objectness / f"{name}.png", image.shape[:2])


def classes_of(labels: Labels) -> set[int]:
    """Return the classes of annotations or of a label map."""
    if isinstance(labels, list):
        return {annotation.label for annotation in labels}
    return set(np.unique(labels).tolist()) - {IGNORE_INDEX}


def _ranks(labels: Labels) -> Labels:
    """Return labels whose class is the rank: that of a click, and 0 of any other labeled pixel."""
    if isinstance(labels, list):
        return [replace(annotation, label=min(annotation.rank, IGNORE_INDEX - 1)) for annotation in labels]
    return np.where(labels == IGNORE_INDEX, np.uint8(IGNORE_INDEX), np.uint8(0))
