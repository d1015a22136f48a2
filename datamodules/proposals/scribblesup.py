"""Label maps from clicks or scribbles, Lin et al., "ScribbleSup", CVPR 2016: a graph cut over superpixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap, drop_outside, rasterize
from datamodules.io.errors import InputError
from datamodules.proposals.generator import LabelGenerator
from datamodules.proposals.graph_cut import alpha_expansion
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

FIXED = 1000.0  # energy instead of infinity; more than the edges of a superpixel
COLOR_BINS, TEXTURE_BINS = 25, 10  # per channel, and per direction of the gradient


@dataclass(frozen=True)
class ScribbleSupLabels(LabelGenerator):
    """Propagates clicks or scribbles to all pixels.

    A superpixel with a label keeps it, and the others get a class of the image (Eq. 3). From the second round on, the
    negative log probability that the network predicts for a class is added (Eq. 4). Adjacent superpixels of similar
    histograms of color and of texture prefer the same class (Eq. 5).

    The paper states the bandwidths 5 and 10, but not the scale of the histograms. Here each histogram sums to 1, and
    the bandwidths are a tenth of the published ones.

    Args:
        scale: Scale of the superpixels of Felzenszwalb and Huttenlocher. Larger ones are larger.
        min_size: Smallest superpixel, pixels.
        color_bandwidth: delta_c.
        texture_bandwidth: delta_t.
    """

    scale: float = 50.0
    min_size: int = 20
    color_bandwidth: float = 0.5
    texture_bandwidth: float = 1.0

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        """Return the label map; see :class:`LabelGenerator`. An image without labels stays unlabeled."""
        size = image.shape[0], image.shape[1]
        marks = rasterize(drop_outside(labels, size), size)
        classes = np.setdiff1d(np.unique(marks), [IGNORE_INDEX])
        if len(classes) == 0:
            return marks
        segments = superpixels(image, self.scale, self.min_size)
        unary = _unary(segments, marks, classes, probs)
        edges = adjacent(segments)
        color = _histograms(segments, list(np.moveaxis(image, 2, 0)), COLOR_BINS) / self.color_bandwidth
        texture = _histograms(segments, _gradients(image), TEXTURE_BINS) / self.texture_bandwidth
        features = np.concatenate([color, texture], axis=1)
        weights = np.exp(-np.square(features[edges[:, 0]] - features[edges[:, 1]]).sum(1))
        drawn = classes[alpha_expansion(unary, edges, weights)][segments]
        return np.where(marks == IGNORE_INDEX, drawn, marks).astype(np.uint8)


def superpixels(image: Image, scale: float, min_size: int) -> NDArray[np.int64]:
    """Return the superpixel of each pixel, int64 (H, W), from 0 on.

    Raises:
        InputError: scikit-image is not installed.
    """
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError as error:
        raise InputError("Superpixels need scikit-image: pip install 'gated-crf[rivals]'") from error
    return np.asarray(felzenszwalb(image, scale=scale, sigma=0.8, min_size=min_size), dtype=np.int64)


def adjacent(segments: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs of superpixels that share a side of a pixel, (E, 2), each once."""
    pairs = [
        np.stack([before.ravel(), after.ravel()], axis=1)
        for before, after in ((segments[1:], segments[:-1]), (segments[:, 1:], segments[:, :-1]))
    ]
    both = np.sort(np.concatenate(pairs), axis=1)
    return np.unique(both[both[:, 0] != both[:, 1]], axis=0)


def _unary(
    segments: NDArray[np.int64], marks: LabelMap, classes: NDArray[np.uint8], probs: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """Return Eqs. 3 and 4, (V, L). A superpixel with several classes keeps the one with most pixels."""
    count = int(segments.max()) + 1
    marked = np.stack([np.bincount(segments[marks == label], minlength=count) for label in classes], axis=1)
    unary = np.zeros(marked.shape)
    if probs is not None:
        sizes = np.bincount(segments.ravel(), minlength=count)
        for place, label in enumerate(classes):
            cost = -np.log(np.maximum(probs[label], 1e-6)).ravel()
            unary[:, place] = np.bincount(segments.ravel(), cost, minlength=count) / sizes
    fixed = marked.any(1)
    unary[fixed] = FIXED
    unary[fixed, marked[fixed].argmax(1)] = 0
    return unary


def _gradients(image: Image) -> Sequence[NDArray[np.uint8]]:
    """Return the horizontal and the vertical gradient of the gray image, mapped to 0 to 255."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return [np.clip(cv2.Sobel(gray, cv2.CV_32F, *axis) / 8 + 128, 0, 255).astype(np.uint8) for axis in ((1, 0), (0, 1))]


def _histograms(segments: NDArray[np.int64], channels: Sequence[NDArray[np.uint8]], bins: int) -> NDArray[np.float64]:
    """Return the histogram of each channel, uint8 (H, W), in each superpixel, (V, channels x bins)."""
    count = int(segments.max()) + 1
    sizes = np.bincount(segments.ravel(), minlength=count)[:, None]
    found = []
    for channel in channels:
        cells = segments * bins + channel.astype(np.int64) * bins // 256
        found.append(np.bincount(cells.ravel(), minlength=count * bins).reshape(count, bins) / sizes)
    return np.concatenate(found, axis=1)
