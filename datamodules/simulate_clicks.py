"""Clicks simulated from dense annotation, Sec. 6.4."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Points, pixel_centers, pixel_indices


class Component(NamedTuple):
    """An 8-connected component of a region.

    Args:
        label: Class index of the region.
        box: Rows and columns of its bounding box.
        mask: bool (h, w), the component in that box.
    """

    label: int
    box: tuple[slice, slice]
    mask: NDArray[np.bool_]


def find_components(instances: NDArray[np.integer], classes: Mapping[int, int]) -> Iterator[Component]:
    """Yield components in order of region value.

    Args:
        instances: (H, W), a value per region.
        classes: Class index per value. Other values are skipped.
    """
    for value in np.unique(instances).tolist():
        if value in classes:
            count, components, stats, _ = cv2.connectedComponentsWithStats((instances == value).astype(np.uint8))
            for component in range(1, count):
                left, top, width, height, _ = stats[component].tolist()
                box = slice(top, top + height), slice(left, left + width)
                yield Component(classes[value], box, components[box] == component)


@dataclass(frozen=True)
class ClickSimulator:
    """One click per 8-connected component of every region.

    The click is the pixel that contains the centroid. If that pixel lies outside the component, the click is the first
    pixel whose distance to the centroid is at least d_min + ``inset`` (d_max - d_min), where d_min and d_max are the
    distances of the nearest and the farthest pixel: close to the centroid, but off the boundary.

    Args:
        min_area: Skip smaller components of stuff, pixels. The paper's 256 is for images of 1024 x 2048 pixels.
        things: Classes of countable objects. Their components are never skipped.
        inset: Share of the range of distances, in [0, 1].
    """

    min_area: int = 256
    things: frozenset[int] = frozenset()
    inset: float = 0.025

    def __call__(
        self, instances: NDArray[np.integer], classes: Mapping[int, int], rng: np.random.Generator | None = None
    ) -> list[Annotation]:
        """Return clicks at pixel centers, in order of region value, then of component.

        Args:
            instances: (H, W), a value per region. In a label map, touching objects of a class share a click.
            classes: Class index per value. Other values are skipped.
            rng: Ignored; scribbles are called with it.
        """
        clicks = []
        for label, (rows, columns), mask in find_components(instances, classes):
            if label in self.things or np.count_nonzero(mask) >= self.min_area:
                x, y = self._place(mask)
                clicks.append(Annotation(label, pixel_centers(np.array([[columns.start + x, rows.start + y]]))))
        return clicks

    def _place(self, component: NDArray[np.bool_]) -> Points:
        """Return the (x, y) index of the click in the bounding box of a component."""
        pixels = np.argwhere(component)[:, ::-1].astype(np.float64)  # row by row: ties go to the upper left
        centroid = pixels.mean(0)
        nearest = pixel_indices(pixel_centers(centroid))
        x, y = nearest.astype(int)
        if component[y, x]:
            return nearest
        distance = np.hypot(*(pixels - centroid).T)
        order = np.argsort(distance, kind="stable")
        sought = distance.min() + self.inset * (distance.max() - distance.min())
        return np.asarray(pixels[order[np.searchsorted(distance[order], sought)]])
