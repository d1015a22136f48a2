"""CVAT annotations, exported as "CVAT for images 1.1"."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from datamodules.coco.instances import Region
from datamodules.importers.drawing import Drawing
from datamodules.io.errors import InputError

ADD = {"points": Drawing.add_clicks, "polyline": Drawing.add_scribble, "polygon": Drawing.add_polygon}


def read_cvat(path: Path, classes: Sequence[str]) -> Iterator[Drawing]:
    """Yield the shapes of each image.

    Args:
        path: annotations.xml. Shapes: points, polyline, polygon, box, mask. Tags are ignored.
        classes: Class names, by index.

    Raises:
        InputError: The file is malformed, or has an unknown label or shape.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); unpack annotations.xml of the export.") from error
    if root.tag != "annotations" or root.find("track") is not None or root.find("image") is None:
        raise InputError(f'{path} is not a list of images; export it from CVAT as "CVAT for images 1.1".')
    for image in root.iterfind("image"):
        where = f"{path}, image {image.get('name')}"
        size = (_number(image, "height", where), _number(image, "width", where))
        drawing = Drawing(where, image.get("name"), classes, size)
        for shape in image:
            if shape.tag in ADD:
                ADD[shape.tag](drawing, shape.get("label"), [p.split(",") for p in shape.get("points", "").split(";")])
            elif shape.tag == "box":
                drawing.add_box(shape.get("label"), _corners(shape))
            elif shape.tag == "mask":
                drawing.add_region(shape.get("label"), _mask(shape, drawing.size, where))
            elif shape.tag != "tag":
                raise InputError(f"{where} has a {shape.tag}; use points, polylines, polygons, boxes or masks instead.")
        yield drawing


def _corners(shape: ElementTree.Element) -> Sequence[Sequence[object]]:
    """Return the corners of a box, (4, 2), which may be rotated about its center."""
    try:
        sides = np.array([[float(shape.get(key, "")) for key in keys] for keys in (("xtl", "ytl"), ("xbr", "ybr"))])
        angle = np.deg2rad(float(shape.get("rotation", "0")))
    except ValueError:
        return []
    center, (x, y) = sides.mean(0), (sides[1] - sides[0]) / 2
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = center + np.array([[-x, -y], [x, -y], [x, y], [-x, y]]) @ rotation
    return corners.tolist()  # type: ignore[no-any-return]


def _mask(shape: ElementTree.Element, size: tuple[int, int], where: str) -> Region:
    """Return a mask, bool (H, W). Its run lengths alternate between outside and inside, row by row of its box."""
    left, top, width, height = (_number(shape, key, where) for key in ("left", "top", "width", "height"))
    try:
        runs = [int(run) for run in shape.get("rle", "").split(",")]
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        region = np.zeros(size, dtype=bool)
        region[top : top + height, left : left + width] = values.reshape(height, width)
    except ValueError as error:
        raise InputError(f"{where} has a mask that does not fill its box inside {size}; export it again.") from error
    return region


def _number(element: ElementTree.Element, key: str, where: str) -> int:
    """Return an attribute in pixels."""
    text = element.get(key, "")
    if not text.isdecimal():
        raise InputError(f"{where} has {key}={text!r}, which is not a number of pixels; export it again.")
    return int(text)
