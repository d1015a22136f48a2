"""Boxes and image tags simulated from dense annotation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Box
from datamodules.simulate_clicks import find_components


@dataclass(frozen=True)
class BoxSimulator:
    """One tight box per object.

    Args:
        min_area: Skip smaller objects, pixels. Without a box, they are labeled as background, unlike objects that get
            no click.
        instances: Regions are objects, which may be in several parts. Otherwise, each 8-connected component is one, as
            touching objects cannot be told apart in a label map.
    """

    min_area: int = 1
    instances: bool = False

    def __call__(
        self, instances: NDArray[np.integer], classes: Mapping[int, int], rng: np.random.Generator | None = None
    ) -> list[Annotation]:
        """Return boxes, in order of region value, then of component. Class 0 is the background and gets none.

        Args:
            instances: (H, W), a value per region.
            classes: Class index per value. Other values are skipped.
            rng: Ignored; scribbles are called with it.
        """
        objects = {value: label for value, label in classes.items() if label != 0}
        if not self.instances:
            return [
                _box(label, columns.start, rows.start, columns.stop, rows.stop)
                for label, (rows, columns), mask in find_components(instances, objects)
                if np.count_nonzero(mask) >= self.min_area
            ]
        boxes: list[Annotation] = []
        for value, label in sorted(objects.items()):
            rows, columns = np.nonzero(instances == value)
            if len(rows) >= max(1, self.min_area):
                boxes.append(_box(label, columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        return boxes


def _box(label: int, *sides: int) -> Box:
    return Box(label, np.array(sides, dtype=np.float64).reshape(2, 2))


def to_tags(classes: Iterable[int]) -> list[Annotation]:
    """Return image tags, in order of class."""
    return [Annotation(label, np.empty((0, 2))) for label in sorted(classes)]


@dataclass(frozen=True)
class TagSimulator:
    """The classes of an image as tags."""

    def __call__(
        self, instances: NDArray[np.integer], classes: Mapping[int, int], rng: np.random.Generator | None = None
    ) -> list[Annotation]:
        """Return one tag per class in the values of ``classes``."""
        return to_tags(set(classes.values()))
