"""Proposals from GrabCut in each bounding box, Khoreva et al., "Simple Does It", CVPR 2017, Sec. 3.2.

The paper's GrabCut+ replaces color differences between pixels by boundaries of a detector (HED) that was trained on
masks. Here GrabCut is that of OpenCV, with color differences.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap, Points
from datamodules.io.errors import InputError
from datamodules.proposals.boxes import BACKGROUND, check_share, largest_first, pixels_in
from datamodules.proposals.generator import LabelGenerator
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

Mask = NDArray[np.bool_]


def cut_out(image: Image, box: Points, margin: float, iterations: int, rng: np.random.Generator) -> Mask:
    """Return the foreground of a box, bool (H, W), false outside of it.

    GrabCut runs on the box and a frame around it, from which it learns the colors of the background. A box without a
    frame, for example one that covers the image, is all foreground.

    Args:
        image: uint8 (H, W, 3).
        box: (2, 2), upper left and lower right corner, pixels.
        margin: Width of the frame in widths of the box, and its height in heights of the box. At least one pixel.
        iterations: Rounds of GrabCut.
        rng: Source of the randomness of the color models.
    """
    inside = pixels_in(box, image.shape)
    reach = np.maximum(1, margin * (box[1] - box[0]))
    window = pixels_in(box + np.array([-reach, reach]), image.shape)
    trimap = np.full(image.shape[:2], cv2.GC_BGD, dtype=np.uint8)
    trimap[inside] = cv2.GC_PR_FGD
    cropped = np.ascontiguousarray(trimap[window])
    if len(np.unique(cropped)) == 2:  # GrabCut needs pixels of both
        cv2.setRNGSeed(int(rng.integers(2**31)))  # OpenCV has a generator per thread
        none = np.empty((0, 0))  # no color models yet
        pixels = np.ascontiguousarray(image[window])
        trimap[window] = cv2.grabCut(pixels, cropped, (0, 0, 0, 0), none, none, iterations, cv2.GC_INIT_WITH_MASK)[0]
    return np.asarray(trimap == cv2.GC_PR_FGD)


def check_settings(margins: tuple[float, float], iterations: int, repetitions: int) -> None:
    """Raise :class:`InputError` unless the frames have positive sizes and the numbers of repetitions are positive."""
    if not 0 < margins[0] <= margins[1]:
        raise InputError(f"The margins are {margins}; use positive numbers, the smaller one first.")
    if iterations < 1 or repetitions < 1:
        raise InputError(f"GrabCut cannot run {repetitions} times for {iterations} iterations; use positive numbers.")


@dataclass(frozen=True)
class GrabCutLabels(LabelGenerator):
    """The foreground that GrabCut finds in a box gets the class of the box, all other pixels are background.

    If boxes overlap, the foreground of the smaller one is in front. Clicks, scribbles and tags are not used.

    Args:
        min_share: Share of the box. If the foreground covers less, GrabCut has failed, and the whole box gets the
            class.
        margin: Width and height of the frame around the box from which the colors of the background are learned,
            relative to the size of the box.
        iterations: Rounds of GrabCut.
    """

    supervisions = ("boxes",)

    min_share: float = 0.1
    margin: float = 0.5
    iterations: int = 5

    def __post_init__(self) -> None:
        check_share("min_share", self.min_share)
        check_settings((self.margin, self.margin), self.iterations, repetitions=1)

    def __call__(
        self,
        image: Image,
        labels: list[Annotation],
        probs: NDArray[np.float32] | None,
        rng: np.random.Generator,
    ) -> LabelMap:
        """Return uint8 (H, W), class index."""
        proposal = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
        for box in largest_first(labels):
            inside = pixels_in(box.points, image.shape)
            foreground = cut_out(image, box.points, self.margin, self.iterations, rng)[inside]
            failed = np.count_nonzero(foreground) < self.min_share * foreground.size
            proposal[inside][foreground | failed] = box.label
        return proposal


@dataclass(frozen=True)
class GrabCutConsensusLabels(LabelGenerator):
    """Pixels on which GrabCuts of slightly different boxes agree, "GrabCut+_i".

    Pixels of a box that most GrabCuts call foreground get the class of the box. Pixels that some call foreground are
    unlabeled, and all other pixels are background. If boxes overlap, the foreground and the unlabeled pixels of the
    smaller one are in front. If fewer than ``min_share`` of the pixels of a box get its class, the rest of the box is
    unlabeled, too. Clicks, scribbles and tags are not used.

    Args:
        repetitions: Number of GrabCuts for each box. The paper has about 150.
        jitter: Largest shift of each side, in widths and heights of the box.
        margins: Range of the size of the frame around the box from which the colors of the background are learned,
            relative to the size of the box.
        foreground: Share of the GrabCuts from which on a pixel gets the class.
        background: Share of the GrabCuts below which a pixel is background.
        min_share: Share of the box.
        iterations: Rounds of each GrabCut. More rounds hardly change the labels, and time is proportional to them.
    """

    supervisions = ("boxes",)

    repetitions: int = 20
    jitter: float = 0.05
    margins: tuple[float, float] = (0.1, 0.6)
    foreground: float = 0.7
    background: float = 0.2
    min_share: float = 0.1
    iterations: int = 2

    def __post_init__(self) -> None:
        for name in ("jitter", "foreground", "background", "min_share"):
            check_share(name, getattr(self, name))
        check_settings(self.margins, self.iterations, self.repetitions)

    def __call__(
        self,
        image: Image,
        labels: list[Annotation],
        probs: NDArray[np.float32] | None,
        rng: np.random.Generator,
    ) -> LabelMap:
        """Return uint8 (H, W), class index or 255."""
        proposal = np.full(image.shape[:2], BACKGROUND, dtype=np.uint8)
        for box in largest_first(labels):
            inside = pixels_in(box.points, image.shape)
            agreement = self._agreement(image, box.points, rng)[inside]
            labeled = agreement >= self.foreground
            failed = np.count_nonzero(labeled) < self.min_share * labeled.size
            proposal[inside][(agreement >= self.background) | failed] = IGNORE_INDEX
            proposal[inside][labeled] = box.label
        return proposal

    def _agreement(self, image: Image, box: Points, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the share of GrabCuts that call a pixel foreground, (H, W)."""
        votes = np.zeros(image.shape[:2])
        for _ in range(self.repetitions):
            shifted = box + rng.uniform(-self.jitter, self.jitter, (2, 2)) * (box[1] - box[0])
            votes += cut_out(image, shifted, rng.uniform(*self.margins), self.iterations, rng)
        return votes / self.repetitions
