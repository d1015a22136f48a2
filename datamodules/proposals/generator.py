"""The interface of methods that label the pixels of an image from its weak labels."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.io.errors import InputError
from datamodules.transforms import Image


class LabelGenerator(ABC):
    """Makes the label map, called proposal, on which a network is trained.

    A subclass is a dataclass: the ``repr`` of its settings names the cache of its proposals.
    """

    supervisions: ClassVar[tuple[str, ...]] = ("clicks", "keypoints", "scribbles", "boxes")
    """Supervisions of a datamodule that it reads. It would take images with other labels for images without any."""

    def with_stroke_width(self, stroke_width: int) -> Self:
        """Return the generator for clicks and scribbles of a width, pixels. By default, it is the same for all."""
        return self

    @abstractmethod
    def __call__(
        self,
        image: Image,
        labels: list[Annotation],
        probs: NDArray[np.float32] | None,
        rng: np.random.Generator,
    ) -> LabelMap:
        """Return the proposal, uint8 (H, W), class index or 255 = unlabeled.

        Args:
            image: uint8 (H, W, 3), RGB.
            labels: Clicks, scribbles or boxes, in pixels of ``image``.
            probs: Class probabilities that the network predicts, float32 (C, H, W), from the second round on.
            rng: Source of all randomness.
        """


def check_supervision(generator: LabelGenerator, supervision: str) -> None:
    """Raise :class:`InputError` if a generator does not read the labels of a supervision."""
    if supervision not in generator.supervisions:
        name, known = type(generator).__name__, " or ".join(generator.supervisions)
        remedy = "choose another --data.supervision or --data.proposals.generator"
        raise InputError(f"{name} makes label maps from {known}, and supervision is {supervision!r}; {remedy}.")
