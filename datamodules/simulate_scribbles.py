"""Scribbles simulated from dense annotation."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Points, pixel_centers
from datamodules.simulate_clicks import find_components

TIE = 1e-6  # pixels; OpenCV may draw a point half way between two pixels on either


@dataclass(frozen=True)
class ScribbleSimulator:
    """One scribble per 8-connected component of every region: an open polyline inside it, as a person would draw.

    It starts where the component is widest, and grows at both ends in turn.

    Args:
        min_area: Skip smaller components, pixels.
        segments: Number of line segments.
        margin: Distance kept from the boundary of the component, pixels.
        tries: Random end points tried per segment. The farthest one whose segment stays inside is taken.
    """

    min_area: int = 256
    segments: int = 4
    margin: int = 3
    tries: int = 40

    def __call__(
        self, instances: NDArray[np.integer], classes: Mapping[int, int], rng: np.random.Generator
    ) -> list[Annotation]:
        """Return scribbles through pixel centers, in order of region value, then of component.

        Args:
            instances: (H, W), a value per region.
            classes: Class index per value. Other values are skipped.
            rng: Source of all randomness.
        """
        scribbles = []
        for label, box, mask in find_components(instances, classes):
            if np.count_nonzero(mask) >= self.min_area:
                component = np.zeros(instances.shape, dtype=np.uint8)
                component[box] = mask
                scribbles.append(Annotation(label, pixel_centers(self._walk(component, rng))))
        return scribbles

    def _walk(self, component: NDArray[np.uint8], rng: np.random.Generator) -> Points:
        """Return the (x, y) indices of the vertices."""
        padded = cv2.copyMakeBorder(component, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        interior = depth > min(self.margin, depth.max() / 2)
        candidates = np.argwhere(interior)
        vertices = [np.array(np.unravel_index(depth.argmax(), depth.shape))]
        for _ in range(self.segments):
            vertices.reverse()
            ends = candidates[rng.integers(len(candidates), size=self.tries)]
            farthest_first = np.argsort(-np.hypot(*(ends - vertices[0]).T), kind="stable")
            for end in ends[farthest_first]:
                line = np.linspace(vertices[-1], end, num=1 + int(abs(end - vertices[-1]).max()))
                rows, columns = np.rint(np.concatenate([line - TIE, line + TIE])).astype(int).T
                if interior[rows, columns].all():
                    vertices.append(end)
                    break
        return np.array(vertices, dtype=np.float64)[:, ::-1]
