"""Superpixels, their neighbors, and the histograms of their colors and textures: Lin et al., CVPR 2016, Sec. 3.1."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from datamodules.annotations import LabelMap
from datamodules.proposals.alpha_expansion import Costs, Indices, importing_rivals
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

COLOR_BINS = 25
TEXTURE_BINS = 10


def find_superpixels(image: Image, scale: float, min_size: int) -> Indices:
    """Return the superpixel of each pixel, (H, W), of Felzenszwalb and Huttenlocher, IJCV 2004.

    Args:
        image: uint8 (H, W, 3), RGB.
        scale: The larger, the larger are the superpixels; k of the paper for gray levels from 0 to 255.
        min_size: Smallest superpixel, pixels.
    """
    with importing_rivals():
        from skimage.segmentation import felzenszwalb
    return np.asarray(felzenszwalb(image, scale=scale, sigma=0.8, min_size=min_size), dtype=np.int64)


def split_at_labels(superpixels: Indices, strokes: LabelMap) -> Indices:
    """Split each superpixel that has strokes of several classes: its pixels follow the nearest stroke in it.

    Args:
        superpixels: (H, W).
        strokes: uint8 (H, W), class index or 255 where there is no stroke.

    Returns:
        (H, W), numbered from 0 without gaps.
    """
    drawn = strokes != IGNORE_INDEX
    pairs = np.unique(np.stack([superpixels[drawn], strokes[drawn]]), axis=1)
    numbers, classes = np.unique(pairs[0], return_counts=True)
    nearest = np.zeros_like(superpixels)
    for number in numbers[classes > 1].tolist():
        inside = superpixels == number
        rows, columns = distance_transform_edt(~(inside & drawn), return_distances=False, return_indices=True)
        nearest[inside] = strokes[rows, columns][inside]
    parts = np.unique(superpixels * (IGNORE_INDEX + 1) + nearest, return_inverse=True)[1]
    return np.asarray(parts.reshape(superpixels.shape))


def find_neighbors(superpixels: Indices) -> Indices:
    """Return each pair of superpixels that share a side of a pixel once, (E, 2), the smaller number first."""
    right = np.stack([superpixels[:, :-1], superpixels[:, 1:]], axis=-1).reshape(-1, 2)
    below = np.stack([superpixels[:-1], superpixels[1:]], axis=-1).reshape(-1, 2)
    pairs = np.concatenate([right, below])
    return np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)


def color_histograms(image: Image, superpixels: Indices) -> Costs:
    """Return the percentage of each color, (S, 3 * COLOR_BINS): equal bins of each channel of RGB, 100 in total."""
    return _percentages(image.astype(np.int64) * COLOR_BINS // 256, COLOR_BINS, superpixels)


def texture_histograms(image: Image, superpixels: Indices) -> Costs:
    """Return the percentage of each size of the horizontal and the vertical gradient, (S, 2 * TEXTURE_BINS).

    Gradients are differences of the gray levels on both sides of a pixel. Equal bins divide the range from 0 to the
    largest gradient of the image. All bins add up to 100.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    gradients = np.stack([abs(cv2.Sobel(gray, cv2.CV_32F, *order, ksize=1)) for order in ((1, 0), (0, 1))], axis=-1)
    bins = np.minimum(gradients / max(1, gradients.max()) * TEXTURE_BINS, TEXTURE_BINS - 1)
    return _percentages(bins.astype(np.int64), TEXTURE_BINS, superpixels)


def _percentages(bins: NDArray[np.int64], number: int, superpixels: Indices) -> Costs:
    """Return (S, channels * number). ``bins`` is (H, W, channels), in [0, number)."""
    channels = bins.shape[2]
    places = superpixels[..., None] * channels * number + np.arange(channels) * number + bins
    pixels = np.bincount(superpixels.ravel())
    counts = np.bincount(places.ravel(), minlength=len(pixels) * channels * number).reshape(len(pixels), -1)
    return np.asarray(100 * counts / (channels * pixels[:, None]))
