"""ScribbleSup: scribbles of Pascal VOC as XML files, and the background clicks derived from them.

::

    <annotation> <size><width>500</width><height>281</height></size> <segmented>1</segmented>
      <polygon><tag>background</tag><point><X>12</X><Y>34</Y></point> ... </polygon> ...

A "polygon" is an open polyline. Points are pixel indices. Some lie outside their image, some polylines have one or two
points, and some images have no background.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from os import getpid
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from zipfile import BadZipFile, ZipFile

import numpy as np

from datamodules.annotations import Annotation, Points
from datamodules.io.errors import InputError
from datamodules.io.images import naming

TAGS = (
    *("background", "plane", "bike", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table", "dog"),
    *("horse", "motorbike", "person", "plant", "sheep", "sofa", "train", "monitor"),
)
"""Names of the VOC classes in these files, by class index."""


@dataclass(frozen=True)
class ScribbleFiles:
    """XML files by image name. Methods raise :class:`InputError` for a missing or malformed file.

    Args:
        path: ``scribble_annotation.zip`` (with ``pascal_2012/NAME.xml``), the folder it unpacks to, or a zip or a
            folder of NAME.xml.
    """

    path: Path

    @cached_property
    def members(self) -> dict[str, str]:
        """Path of the XML file of each image, relative to ``path``."""
        if self.path.is_dir():
            names = [str(p.relative_to(self.path)) for p in self.path.rglob("*.xml")]
        else:
            try:
                with ZipFile(self.path) as archive:
                    names = archive.namelist()
            except (OSError, BadZipFile) as error:
                message = f"{self.path} is neither a folder nor a readable zip ({error}); download it again."
                raise InputError(message) from error
        xml = [name for name in names if name.endswith(".xml") and "__MACOSX" not in name]
        chosen = [name for name in xml if "pascal_2012" in PurePosixPath(name).parts] or [
            name for name in xml if len(PurePosixPath(name).parts) == 1
        ]
        if not chosen:
            raise InputError(f"{self.path} has neither NAME.xml nor pascal_2012/NAME.xml; is it ScribbleSup?")
        return {PurePosixPath(name).stem: name for name in sorted(chosen)}

    def read(self, name: str) -> tuple[list[Annotation], tuple[int, int]]:
        """Return the scribbles of an image in file order, in pixel indices, and (H, W) as stated in the file."""
        if name not in self.members:
            raise InputError(f"{self.path} has no scribbles of {name}; download it again.", "no labels", name)
        member = self.members[name]
        with naming(self.path / member, "a scribble file"):
            is_folder = self.path.is_dir()
            return parse((self.path / member).read_bytes() if is_folder else _open(self.path, getpid()).read(member))


@cache
def _open(path: Path, process: int) -> ZipFile:
    """Return the open zip. Opening is slow, and processes cannot share a file handle."""
    return ZipFile(path)


def parse(content: bytes) -> tuple[list[Annotation], tuple[int, int]]:
    """Return the scribbles of an XML file in pixel indices, and its (H, W).

    Raises:
        ValueError: The content is malformed.
    """
    root = ElementTree.fromstring(content)
    size = (_integer(root, "size/height"), _integer(root, "size/width"))
    scribbles = []
    for polygon in root.iterfind("polygon"):
        tag = polygon.findtext("tag", "").strip()
        if tag not in TAGS:
            raise ValueError(f"unknown tag {tag!r}; the tags are {', '.join(TAGS)}")
        points = [(_integer(point, "X"), _integer(point, "Y")) for point in polygon.iterfind("point")]
        if not points:
            raise ValueError(f"a polygon of {tag!r} without points")
        scribbles.append(Annotation(TAGS.index(tag), np.array(points, dtype=np.float64)))
    if not scribbles:
        raise ValueError("no polygon")
    return scribbles, size


def _integer(element: ElementTree.Element, path: str) -> int:
    text = element.findtext(path, "").strip()
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"<{path}> is {text!r}, not an integer") from None


def background_clicks(scribbles: Sequence[Annotation]) -> list[Annotation]:
    """Return two clicks per background scribble, as in the click files of the paper, Sec. 6.4.

    The clicks are at 25 % and 75 % of its length or, with one or two points, at the first and the last.
    """
    clicks = []
    for scribble in scribbles:
        if scribble.label == 0:
            few = len(scribble.points) <= 2
            ends = scribble.points[[0, -1]] if few else along(scribble.points, (0.25, 0.75))
            clicks += [Annotation(0, end[None]) for end in ends]
    return clicks


def along(points: Points, fractions: Sequence[float]) -> Points:
    """Return the points at given fractions of the length of an open polyline, (len(fractions), 2)."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    sought = np.asarray(fractions) * length[-1]
    return np.stack([np.interp(sought, length, axis) for axis in points.T], axis=1)
