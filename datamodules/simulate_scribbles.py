"""Scribbles simulated from dense annotation: an open polyline inside each region, as a person would draw it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Points


@dataclass(frozen=True)
class ScribbleSimulator:
    """One scribble per 8-connected component of every region, starting where the component is widest.

    Args:
        min_area: Smaller components are skipped, pixels.
        segments: Straight pieces of a scribble.
        margin: Distance kept from the component's boundary, pixels.
        tries: Random ends tried for each piece; of those whose piece stays inside, the farthest from the other end is
            drawn.
    """

    min_area: int = 256
    segments: int = 4
    margin: int = 3
    tries: int = 40

    def __call__(
        self, instances: NDArray[np.integer], classes: dict[int, int], rng: np.random.Generator
    ) -> list[Annotation]:
        """Return scribbles in order of region value, then of component.

        Args:
            instances: (H, W), a value per region.
            classes: Class index of each value that gets scribbles.
            rng: Source of all randomness.
        """
        scribbles = []
        for value in np.unique(instances).tolist():
            if value not in classes:
                continue
            count, components, stats, _ = cv2.connectedComponentsWithStats((instances == value).astype(np.uint8))
            for component in range(1, count):
                if stats[component, cv2.CC_STAT_AREA] >= self.min_area:
                    points = self._walk((components == component).astype(np.uint8), rng)
                    scribbles.append(Annotation(classes[value], points + 0.5))
        return scribbles

    def _walk(self, component: NDArray[np.uint8], rng: np.random.Generator) -> Points:
        """Return (x, y) pixel indices of the vertices."""
        padded = cv2.copyMakeBorder(component, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        interior = depth > min(self.margin, depth.max() / 2)
        candidates = np.argwhere(interior)
        vertices = [np.array(np.unravel_index(depth.argmax(), depth.shape))]
        for _ in range(self.segments):
            vertices.reverse()  # grow both ends in turn, each as far as it can from the other
            ends = candidates[rng.integers(len(candidates), size=self.tries)]
            farthest_first = np.argsort(-np.hypot(*(ends - vertices[0]).T), kind="stable")
            for end in ends[farthest_first]:
                line = np.linspace(vertices[-1], end, num=1 + int(abs(end - vertices[-1]).max()))
                rounded = [np.floor(line + 0.5 + 1e-6), np.ceil(line - 0.5 - 1e-6)]  # a tie may be drawn either way
                steps = np.concatenate(rounded).astype(int)
                if interior[steps[:, 0], steps[:, 1]].all():
                    vertices.append(end)
                    break
        return np.array(vertices, dtype=np.float64)[:, ::-1]
