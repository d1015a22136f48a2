"""Proposals from clicks and scribbles by graph cuts on superpixels: Lin et al., "ScribbleSup", CVPR 2016, Sec. 3."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Box, LabelMap, check_stroke_width, rasterize
from datamodules.io.errors import InputError
from datamodules.proposals.alpha_expansion import Costs, Indices, expand_labels
from datamodules.proposals.generator import LabelGenerator
from datamodules.proposals.superpixels import (
    color_histograms,
    find_neighbors,
    find_superpixels,
    split_at_labels,
    texture_histograms,
)
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

_LEAST = 1e-10  # a probability of 0 would forbid a class


@dataclass(frozen=True)
class ScribbleSupLabels(LabelGenerator):
    """Classes of clicks and scribbles, spread to all pixels.

    Superpixels get the classes that minimize

        sum_i scr_i(y_i) + sum_i net_i(y_i) + sum_ij [y_i != y_j] exp(-|c_i - c_j|^2 / d_c^2 - |t_i - t_j|^2 / d_t^2).

    The term scr is 0 for the class of a stroke on the superpixel and infinite for others. Without a stroke, it is
    log K for the K classes of the image and infinite for others. The term net is the sum of -log P over the pixels,
    and 0 in the first round. The last sum is over neighbors; c and t are histograms of colors and of gradients, in
    percent. (Were the sum of a histogram 1, then the paper's d_c = 5 and d_t = 10 would make all neighbors similar.)
    A superpixel with strokes of several classes is split: its pixels follow the nearest stroke in it.

    The classes of an image are those of its clicks, scribbles and tags. Boxes are not used. An image without a stroke
    has no labels.

    Args:
        scale: Superpixels are larger for larger values; see :func:`find_superpixels`. The paper does not state
            it. The default gives about 350 superpixels in a photograph of 256 x 192 pixels.
        min_size: Smallest superpixel, pixels.
        stroke_width: Width of clicks and scribbles, odd, pixels of the image. ``None`` is that of the datamodule, or 1
            without one.
        delta_color: d_c.
        delta_texture: d_t.
    """

    supervisions = ("clicks", "keypoints", "scribbles")

    scale: float = 50.0
    min_size: int = 20
    stroke_width: int | None = None
    delta_color: float = 5.0
    delta_texture: float = 10.0

    def __post_init__(self) -> None:
        check_stroke_width(self._width)
        for name in ("scale", "min_size", "delta_color", "delta_texture"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; use a positive number.")

    @property
    def _width(self) -> int:
        return 1 if self.stroke_width is None else self.stroke_width

    def with_stroke_width(self, stroke_width: int) -> Self:
        """Return this generator with a width of strokes, unless it has one."""
        return replace(self, stroke_width=stroke_width) if self.stroke_width is None else self

    def __call__(
        self,
        image: Image,
        labels: list[Annotation],
        probs: NDArray[np.float32] | None,
        rng: np.random.Generator,
    ) -> LabelMap:
        """Return uint8 (H, W), class index, or 255 everywhere."""
        classes = np.array(sorted({each.label for each in labels if not isinstance(each, Box)}), dtype=np.uint8)
        strokes = rasterize(labels, image.shape[:2], self._width)
        if (strokes == IGNORE_INDEX).all():
            return strokes
        superpixels = split_at_labels(find_superpixels(image, self.scale, self.min_size), strokes)
        unary = scribble_costs(superpixels, strokes, classes)
        if probs is not None:
            unary += network_costs(superpixels, probs[classes])
        edges = find_neighbors(superpixels)
        chosen = expand_labels(unary, edges, self._weights(image, superpixels, edges))
        return np.asarray(classes[chosen][superpixels])

    def _weights(self, image: Image, superpixels: Indices, edges: Indices) -> Costs:
        """Return the similarity of neighbors, (E,)."""
        distance = np.zeros(len(edges))
        colors, textures = color_histograms(image, superpixels), texture_histograms(image, superpixels)
        for histograms, delta in ((colors, self.delta_color), (textures, self.delta_texture)):
            first, second = histograms[edges.T]
            distance += ((first - second) ** 2).sum(1) / delta**2
        return np.exp(-distance)


def scribble_costs(superpixels: Indices, strokes: LabelMap, classes: NDArray[np.uint8]) -> Costs:
    """Return scr, (S, K).

    Args:
        superpixels: (H, W). Each has strokes of one class or none.
        strokes: uint8 (H, W), class index or 255.
        classes: (K,), increasing, with all classes of the strokes.
    """
    costs = np.full((superpixels.max() + 1, len(classes)), np.log(len(classes)))
    drawn = strokes != IGNORE_INDEX
    costs[superpixels[drawn]] = np.inf
    costs[superpixels[drawn], np.searchsorted(classes, strokes[drawn])] = 0
    return costs


def network_costs(superpixels: Indices, probs: NDArray[np.float32]) -> Costs:
    """Return net, (S, K): the sum of -log P over the pixels of each superpixel. ``probs`` is (K, H, W)."""
    costs = -np.log(np.maximum(probs, _LEAST).astype(np.float64))
    return np.stack([np.bincount(superpixels.ravel(), cost.ravel()) for cost in costs], axis=1)
