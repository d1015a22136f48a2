"""Clicks and scribbles from shapes drawn in an annotation tool.

A point is a click and a line is a scribble. Region boundaries are inaccurate, so a region gives one simulated scribble
or click inside the largest part that no smaller region covers.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import cv2
import numpy as np

from datamodules.annotations import Annotation, Points
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
        classes: Class names, by index.
        size: (H, W), pixels.

    Raises:
        InputError: The size is not two positive integers. The methods raise it for an unknown label or invalid points.
    """

    where: str
    classes: Sequence[str]
    size: tuple[Any, Any]
    vectors: list[Annotation] = field(default_factory=list)
    regions: dict[int, Region] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(isinstance(side, int) and side > 0 for side in self.size):
            raise InputError(f"{self.where} has the image size (H, W) {self.size}; export it again.")

    def add_clicks(self, label: Any, points: Any) -> None:
        """Add points, (K, 2), pixels."""
        self.vectors += [Annotation(self._class(label), point[None]) for point in self._points(points, 1)]

    def add_scribble(self, label: Any, points: Any) -> None:
        """Add a line through points, (K, 2), pixels."""
        self.vectors.append(Annotation(self._class(label), self._points(points, 2)))

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
        """Return the simulated labels of the regions, then the points and lines, which lie on top."""
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


def load_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); export it again.") from error


def image_name(path: Any, where: str) -> str:
    """Return a file name without folders and suffix. Paths may be of Windows or Unix.

    Raises:
        InputError: There is no file name.
    """
    name = PureWindowsPath(path).stem if isinstance(path, str) else ""
    if not name:
        raise InputError(f"{where} has the image path {path!r}; export it again with image names.")
    return name


def add_image(found: dict[str, list[Annotation]], name: str, annotations: list[Annotation], path: Path) -> None:
    """Add the annotations of an image.

    Raises:
        InputError: ``found`` already has an image of that name.
    """
    if name in found:
        raise InputError(f"{path} labels a second image {name!r}; rename one, since labels are found by name.")
    found[name] = annotations
