"""Labels drawn in CVAT, exported as "CVAT for images 1.1"."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import numpy as np

from datamodules.annotations import Annotation
from datamodules.coco.dataset import Region
from datamodules.importers.drawing import SCRIBBLES, Drawing, Simulator, image_name
from datamodules.io.errors import InputError


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Refuses entities, which only a DOCTYPE can declare: a small file could swell to any size."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise InputError("it has a DOCTYPE, which CVAT does not write")


def read_cvat(path: Path, classes: Sequence[str], simulator: Simulator = SCRIBBLES) -> dict[str, list[Annotation]]:
    """Return what is drawn on each image, by its name without folder and suffix.

    Args:
        path: annotations.xml. Known are points, polylines, polygons and masks; tags say nothing about pixels.
        classes: Names of the classes, by index.
        simulator: Draws inside polygons and masks.

    Raises:
        InputError: Another file, an unknown label or another shape.
    """
    try:
        root = ElementTree.parse(path, ElementTree.XMLParser(target=_WithoutDoctype())).getroot()
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); unpack annotations.xml of the export.") from error
    if root.tag != "annotations" or root.find("track") is not None or root.find("image") is None:
        raise InputError(f'{path} is no list of images; export it from CVAT as "CVAT for images 1.1".')
    found: dict[str, list[Annotation]] = {}
    for image in root.iterfind("image"):
        name = image_name(image.get("name"), str(path))
        if name in found:
            raise InputError(f"{path} has several images {name!r}; labels are found by name, so rename one.")
        where = f"{path}, image {image.get('name')}"
        drawing = Drawing(where, classes, (_number(image, "height", where), _number(image, "width", where)))
        for shape in image:
            label, points = shape.get("label"), [pair.split(",") for pair in shape.get("points", "").split(";")]
            if shape.tag == "points":
                drawing.add_clicks(label, points)
            elif shape.tag == "polyline":
                drawing.add_scribble(label, points)
            elif shape.tag == "polygon":
                drawing.add_polygon(label, points)
            elif shape.tag == "mask":
                drawing.add_region(label, _mask(shape, drawing.size, where))
            elif shape.tag != "tag":
                raise InputError(f"{where} has a {shape.tag}; draw points, polylines, polygons or masks instead.")
        found[name] = drawing.annotations(simulator)
    return found


def _mask(shape: ElementTree.Element, size: tuple[int, int], where: str) -> Region:
    """Return the pixels of a mask: runs outside and inside in turn, row by row of its box."""
    left, top, width, height = (_number(shape, key, where) for key in ("left", "top", "width", "height"))
    try:
        runs = [int(run) for run in shape.get("rle", "").split(",")]
    except ValueError:
        runs = []
    inside = min(left, top) >= 0 and left + width <= size[1] and top + height <= size[0]
    if not inside or min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise InputError(f"{where} has a mask that does not fill its box inside of {size}; export it again.")
    region = np.zeros(size, dtype=bool)
    filled = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    region[top : top + height, left : left + width] = filled.reshape(height, width)
    return region


def _number(element: ElementTree.Element, key: str, where: str) -> int:
    try:
        return int(element.get(key, ""))
    except ValueError as error:
        raise InputError(f"{where} has {key}={element.get(key)!r}, no number of pixels; export it again.") from error
