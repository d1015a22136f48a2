"""Clicks, scribbles and boxes from shapes drawn in an annotation tool.

A point is a click, a line is a scribble, and a rectangle is a box. Hand-drawn boundaries are inaccurate, so each other
region is converted to one simulated scribble or click, inside its largest part that is not covered by a smaller region.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any

import cv2
import numpy as np

from datamodules.annotations import Annotation, Box, Points
from datamodules.coco.instances import Region, fill_polygons, stack
from datamodules.io.errors import InputError
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator

Simulator = ClickSimulator | ScribbleSimulator
SCRIBBLES = ScribbleSimulator(min_area=1)
CLICKS = ClickSimulator(min_area=1)


@dataclass
class Drawing:
    """Shapes of one image.

    Args:
        where: File and image, for error messages.
        path: Windows or Unix path of the image.
        classes: Class names, by index.
        size: (H, W), pixels.

    Raises:
        InputError: The path or the size is invalid. The methods raise it for an unknown label or invalid points.
    """

    where: str
    path: Any
    classes: Sequence[str]
    size: tuple[Any, Any]
    vectors: list[Annotation] = field(default_factory=list)
    regions: dict[int, Region] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = PureWindowsPath(self.path).stem if isinstance(self.path, str) else ""
        if not self.name:
            raise InputError(f"{self.where} has the image path {self.path!r}; export it again with image names.")
        if not all(isinstance(side, int) and side > 0 for side in self.size):
            raise InputError(f"{self.where} has the image size (H, W) {self.size}; export it again.")

    def add_clicks(self, label: Any, points: Any) -> None:
        """Add points, (K, 2), pixels."""
        self.vectors += [Annotation(self._class(label), point[None]) for point in self._points(points, 1)]

    def add_scribble(self, label: Any, points: Any) -> None:
        """Add a line through points, (K, 2), pixels."""
        self.vectors.append(Annotation(self._class(label), self._points(points, 2)))

    def add_box(self, label: Any, corners: Any) -> None:
        """Add the smallest box around some of its corners, (K, 2), pixels."""
        points = self._points(corners, 2)
        low, high = points.min(0), points.max(0)
        if not (low < high).all():
            raise InputError(f"{self.where} has a rectangle without area, {str(corners)[:60]}; draw it again.")
        self.vectors.append(Box(self._class(label), np.stack([low, high])))

    def add_polygon(self, label: Any, points: Any) -> None:
        """Add the inside of a polygon, (K, 2), pixels."""
        corners = self._points(points, 3)
        if np.abs(corners).max() > 2 * max(self.size):  # pycocotools would allocate memory for all of it
            raise InputError(f"{self.where} has a polygon far outside the image of size {self.size}; draw it again.")
        self.add_region(label, fill_polygons([corners.ravel().tolist()], self.size))

    def add_region(self, label: Any, region: Region) -> None:
        """Add pixels, bool (H, W)."""
        value = len(self.regions) + 1
        self.regions[value], self.labels[value] = region, self._class(label)

    def annotations(self, simulator: Simulator) -> list[Annotation]:
        """Return the simulated labels of the regions, then the points, lines and boxes, which are drawn on top."""
        if not self.regions:
            return self.vectors
        parts = stack(self.regions, self.size)
        for value in self.regions:
            count, components, stats, _ = cv2.connectedComponentsWithStats((parts == value).astype(np.uint8))
            if count > 1:
                largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
                parts[(components > 0) & (components != largest)] = 0
        if isinstance(simulator, ClickSimulator):
            return [*simulator(parts, self.labels), *self.vectors]
        return [*simulator(parts, self.labels, np.random.default_rng(0)), *self.vectors]

    def _class(self, label: Any) -> int:
        if label not in self.classes:
            raise InputError(f"{self.where} has the label {label!r}; the classes are {', '.join(self.classes)}.")
        return self.classes.index(label)

    def _points(self, points: Any, minimum: int) -> Points:
        try:
            found = np.asarray(points, dtype=np.float64)
        except (TypeError, ValueError):
            found = np.empty(0)
        if found.ndim != 2 or found.shape[1] != 2 or len(found) < minimum or not np.isfinite(found).all():
            raise InputError(f"{self.where} has the points {str(points)[:60]}; expected at least {minimum} [x, y].")
        return found


def to_annotations(drawings: Iterable[Drawing], simulator: Simulator) -> dict[str, list[Annotation]]:
    """Convert drawings to annotations by image name, which is the file name without folders and suffix.

    Args:
        drawings: One drawing per image.
        simulator: Draws a scribble or a click inside each region.

    Raises:
        InputError: Two images have the same name.
    """
    found: dict[str, list[Annotation]] = {}
    for drawing in drawings:
        if drawing.name in found:
            raise InputError(f"{drawing.where} labels a second image {drawing.name!r}; rename one of the images.")
        found[drawing.name] = drawing.annotations(simulator)
    return found
