"""Bounding boxes of Pascal VOC: Annotations/NAME.xml."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from datamodules.annotations import Annotation, Box
from datamodules.io.errors import InputError
from datamodules.voc.files import CLASSES


@dataclass(frozen=True)
class BoxFiles:
    """Boxes of all objects, including difficult ones.

    Args:
        folder: ``VOCdevkit/VOC2012/Annotations``.
    """

    folder: Path

    def names(self) -> set[str]:
        """Return the names of the images that have a file."""
        return {path.stem for path in self.folder.glob("*.xml")}

    def read(self, name: str) -> list[Annotation]:
        """Return the boxes of an image. In the file, the first pixel is 1, and the last one belongs to the box.

        Raises:
            InputError: The file is missing or malformed.
        """
        path = self.folder / f"{name}.xml"
        if not path.is_file():
            raise InputError(f"{path} is missing; see: gatedcrf data download voc.", "no labels", name)
        try:
            objects = ElementTree.parse(path).getroot().findall("object")
            return [_to_box(each) for each in objects]
        except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
            message = f"{path} is not an annotation of VOC ({error}); download VOC again."
            raise InputError(message, "cannot be read", path) from error


def _to_box(element: ElementTree.Element) -> Box:
    left, top, right, bottom = (
        float(element.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    corners = np.array([[left - 1, top - 1], [right, bottom]])
    return Box(CLASSES.index(element.findtext("name", "")), corners)
