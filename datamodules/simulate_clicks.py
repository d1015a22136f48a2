"""Clicks simulated from dense annotation, Sec. 6.4."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation


@dataclass(frozen=True)
class ClickSimulator:
    """One click per 8-connected component of every region: its centroid or, if that lies outside, a pixel near it.

    Where Sec. 6.4 leaves a choice, it is an option whose default is the reading we recommend.

    Args:
        min_area: Components of stuff smaller than this are skipped, pixels. 256 is the paper's for 1024 x 2048 images.
        things: Classes of countable objects, whose components are never skipped for their size.
        round_centroid: Test whether the pixel nearest to the centroid belongs to the component; false takes the pixel
            that contains the centroid in continuous coordinates' lower corner (floor of the mean index).
        inset: For a centroid outside: the first pixel whose distance to the centroid is this share of the way from the
            smallest to the largest distance, so that the click stays off the boundary.
        inset_by_rank: Read ``inset`` as a share of the sorted pixels instead of the range of distances.
    """

    min_area: int = 256
    things: frozenset[int] = frozenset()
    round_centroid: bool = True
    inset: float = 0.025
    inset_by_rank: bool = False

    def __call__(self, instances: NDArray[np.integer], classes: dict[int, int]) -> list[Annotation]:
        """Return clicks in order of region value, then of component.

        Args:
            instances: (H, W), a value per region; a label map will do, then touching objects of a class share a click.
            classes: Class index of each value that gets clicks; other values are skipped.
        """
        clicks = []
        for value in np.unique(instances).tolist():
            if value not in classes:
                continue
            label = classes[value]
            smallest = 1 if label in self.things else self.min_area
            region = (instances == value).astype(np.uint8)
            count, components, stats, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
            for component in range(1, count):
                if stats[component, cv2.CC_STAT_AREA] >= smallest:
                    left, top = stats[component, cv2.CC_STAT_LEFT], stats[component, cv2.CC_STAT_TOP]
                    width, height = stats[component, cv2.CC_STAT_WIDTH], stats[component, cv2.CC_STAT_HEIGHT]
                    box = components[top : top + height, left : left + width] == component
                    point = np.array([left, top]) + self._place(box)
                    clicks.append(Annotation(label, point[None] + 0.5))  # the center of that pixel
        return clicks

    def _place(self, component: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the (x, y) pixel index of the click in the bounding box of a component."""
        pixels = np.argwhere(component)[:, ::-1].astype(np.float64)  # row by row: ties go to the upper left
        centroid = pixels.mean(0)
        nearest = np.floor(centroid + 0.5 if self.round_centroid else centroid).astype(int)
        if component[nearest[1], nearest[0]]:
            return np.asarray(nearest, dtype=np.float64)
        distance = np.hypot(*(pixels - centroid).T)
        order = np.argsort(distance, kind="stable")
        if self.inset_by_rank:
            return np.asarray(pixels[order[int(self.inset * (len(order) - 1))]])
        sought = distance.min() + self.inset * (distance.max() - distance.min())
        return np.asarray(pixels[order[np.searchsorted(distance[order], sought)]])
