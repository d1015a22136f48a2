"""Label maps from GrabCut in each box, Khoreva et al., CVPR 2017, Sec. 3. GrabCut is OpenCV's, on colors."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.io.errors import InputError
from datamodules.proposals.boxes import BACKGROUND, Region, largest_first
from datamodules.proposals.generator import LabelGenerator
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

Mask = NDArray[np.bool_]
ITERATIONS = 5


@dataclass(frozen=True)
class GrabCutLabels(LabelGenerator):
    """GrabCut: the foreground of GrabCut in a box has the class of the box, all other pixels are background.

    Args:
        margin: Background around the box that GrabCut sees, relative to the sides of the box.
        min_share: A foreground smaller than this share of the box is a failure: the whole box gets the class.
    """

    margin: float = 0.5
    min_share: float = 0.1

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        """Return the label map; see :class:`LabelGenerator`."""

        def votes(region: Region) -> NDArray[np.float64]:
            foreground = grab_cut(image, region, self.margin, rng)[region]
            failed = foreground.mean() < self.min_share
            return np.ones(foreground.shape) if failed else foreground.astype(np.float64)

        return _draw(image, labels, votes, 0.5, 0.5)


@dataclass(frozen=True)
class GrabCutConsensusLabels(LabelGenerator):
    """GrabCut+_i: the share of GrabCuts of perturbed boxes that call a pixel foreground decides on its label.

    Pixels with at least ``foreground`` of the votes get the class of the box, those with at most ``background`` are
    background, and the others are unlabeled.

    Args:
        boxes: Number of perturbed boxes. The paper has 150.
        jitter: Largest shift of each side, relative to the box. The paper has 5 %.
        margins: Bounds of the random background around a box, relative to its sides. The paper has 10 % to 60 %.
        foreground: Share of the votes. The paper has 70 %.
        background: Share of the votes. The paper has 20 %.
    """

    boxes: int = 10
    jitter: float = 0.05
    margins: tuple[float, float] = (0.1, 0.6)
    foreground: float = 0.7
    background: float = 0.2

    def __post_init__(self) -> None:
        if self.boxes < 1 or not 0 <= self.background < self.foreground <= 1:
            settings = f"boxes={self.boxes}, background={self.background}, foreground={self.foreground}"
            raise InputError(f"{settings}: use at least 1 box and 0 <= background < foreground <= 1.")

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        """Return the label map; see :class:`LabelGenerator`."""

        def votes(region: Region) -> NDArray[np.float64]:
            shifted = [self._shift(region, image.shape, rng) for _ in range(self.boxes)]
            masks = [grab_cut(image, each, rng.uniform(*self.margins), rng)[region] for each in shifted]
            return np.asarray(np.mean(masks, axis=0))

        return _draw(image, labels, votes, self.foreground, self.background)

    def _shift(self, region: Region, size: tuple[int, ...], rng: np.random.Generator) -> Region:
        sides = []
        for side, length in zip(region, size, strict=False):
            reach = self.jitter * (side.stop - side.start)
            ends = np.array([side.start, side.stop]) + rng.uniform(-reach, reach, 2)
            start, stop = np.rint(ends).astype(int).tolist()
            start = min(max(start, 0), length - 1)
            sides.append(slice(start, max(start + 1, min(stop, length))))
        return sides[0], sides[1]


def grab_cut(image: Image, region: Region, margin: float, rng: np.random.Generator) -> Mask:
    """Return the foreground of a box, bool (H, W), false outside the box.

    If there is no pixel around the box, or if all its pixels and those around it have one color, all of it is.

    Args:
        image: uint8 (H, W, 3).
        region: Pixels of the box.
        margin: Background to use around the box, relative to its sides.
        rng: GrabCut initializes its color models at random.
    """
    window = tuple(
        slice(max(0, side.start - reach), min(length, side.stop + reach))
        for side, length in zip(region, image.shape, strict=False)
        for reach in [max(1, round(margin * (side.stop - side.start)))]
    )
    pixels = np.ascontiguousarray(image[window])
    state = np.full(pixels.shape[:2], cv2.GC_BGD, dtype=np.uint8)
    inside = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(region, window, strict=True))
    state[inside] = cv2.GC_PR_FGD
    result = np.zeros(image.shape[:2], dtype=bool)
    if (state == cv2.GC_BGD).any() and (pixels != pixels[0, 0]).any():
        cv2.setRNGSeed(int(rng.integers(2**31)))  # of this thread
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))  # five Gaussians each
        cv2.grabCut(pixels, state, (0, 0, 0, 0), background, foreground, ITERATIONS, cv2.GC_INIT_WITH_MASK)
        result[window] = state == cv2.GC_PR_FGD
    else:
        result[region] = True
    return result


def _draw(
    image: Image,
    labels: list[Annotation],
    votes: Callable[[Region], NDArray[np.float64]],
    foreground: float,
    background: float,
) -> LabelMap:
    """Draw the boxes, smaller ones on top. ``votes`` returns the share of foreground votes in the pixels of a box."""
    drawn = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
    for label, region in largest_first(labels, drawn.shape):
        shares, part = votes(region), drawn[region]
        part[shares > background] = IGNORE_INDEX
        part[shares >= foreground] = label
    return drawn
