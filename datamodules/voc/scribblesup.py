"""ScribbleSup: scribbles of Pascal VOC as XML files in a folder or a zip, and the clicks that follow from them.

::

    <annotation> <size><width>500</width><height>281</height></size> <segmented>1</segmented>
      <polygon><tag>background</tag><point><X>12</X><Y>34</Y></point> ... </polygon> ...

A "polygon" is an open polyline. Points are indices of pixels; some lie outside of their image, some polylines have one
or two points, and some images have no background.
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
    """The XML files, by name of the image.

    Args:
        path: A folder with NAME.xml, the original zip (``scribble_annotation/pascal_2012/NAME.xml``), the folder it
            unpacks to, or a zip of NAME.xml.

    Raises:
        InputError: Something else.
    """

    path: Path

    @cached_property
    def members(self) -> dict[str, str]:
        """Path inside of ``path`` of each image's file."""
        if self.path.is_dir():
            names = [str(p.relative_to(self.path)) for p in self.path.rglob("*.xml")]
        else:
            try:
                with ZipFile(self.path) as archive:
                    names = archive.namelist()
            except (OSError, BadZipFile) as error:
                raise InputError(
                    f"{self.path} is no folder and no readable zip ({error}); fetch scribble_annotation.zip again."
                ) from error
        xml = [name for name in names if name.endswith(".xml") and "__MACOSX" not in name]
        chosen = [name for name in xml if "pascal_2012" in PurePosixPath(name).parts] or [
            name for name in xml if len(PurePosixPath(name).parts) == 1
        ]
        if not chosen:
            raise InputError(f"{self.path} holds no NAME.xml and no pascal_2012/NAME.xml; is it ScribbleSup's?")
        return {PurePosixPath(name).stem: name for name in sorted(chosen)}

    def read(self, name: str) -> tuple[list[Annotation], tuple[int, int]]:
        """Return the scribbles of an image in file order, in indices of pixels, and the (H, W) that the file states.

        Raises:
            InputError: No such file, or one that is not of that form.
        """
        if name not in self.members:
            raise InputError(f"{self.path} holds no scribbles of {name}; fetch it again.", "no labels", name)
        member = self.members[name]
        with naming(self.path / member, "a file of scribbles"):
            is_folder = self.path.is_dir()
            content = (self.path / member).read_bytes() if is_folder else _open(self.path, getpid()).read(member)
        try:
            return parse(content)
        except ValueError as error:
            kind = "cannot be read as a file of scribbles"
            raise InputError(f"{self.path}: {member}: {error}", kind, member) from error


@cache
def _open(path: Path, process: int) -> ZipFile:
    """Return the open archive of a process: listing its members takes long, and processes cannot share a handle."""
    return ZipFile(path)


def parse(content: bytes) -> tuple[list[Annotation], tuple[int, int]]:
    """Return the scribbles of one XML file in indices of pixels, and its (H, W).

    Raises:
        InputError: Content that is not of the form above; the message says what.
    """
    if any("<!DOCTYPE".encode(encoding) in content for encoding in ("utf-8", "utf-16-le", "utf-16-be")):
        raise InputError("it has a DOCTYPE, which no file of ScribbleSup has.")  # entities can grow without bound
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"it is no XML ({error}).") from error
    if root.tag != "annotation":
        raise InputError(f"its root is <{root.tag}>, not <annotation>.")
    size = (_integer(root, "size/height"), _integer(root, "size/width"))
    if min(size) < 1:
        raise InputError(f"its size is {size[1]} x {size[0]}.")
    scribbles = []
    for polygon in root.iterfind("polygon"):
        tag = polygon.findtext("tag", "").strip()
        if tag not in TAGS:
            raise InputError(f"it has the tag {tag!r}; the classes are {', '.join(TAGS)}.")
        points = [(_integer(point, "X"), _integer(point, "Y")) for point in polygon.iterfind("point")]
        if not points:
            raise InputError(f"a polygon of {tag!r} has no point.")
        scribbles.append(Annotation(TAGS.index(tag), np.array(points, dtype=np.float64)))
    if not scribbles:
        raise InputError("it has no polygon.")
    return scribbles, size


def background_clicks(scribbles: Sequence[Annotation]) -> list[Annotation]:
    """Return two clicks per scribble of the background, in order, as in the files of the paper, Sec. 6.4.

    They lie at 25 % and 75 % of its length; a scribble of one or two points gives its first and last point.
    """
    clicks = []
    for scribble in scribbles:
        if scribble.label == 0:
            few = len(scribble.points) <= 2
            ends = scribble.points[[0, -1]] if few else along(scribble.points, (0.25, 0.75))
            clicks += [Annotation(0, end[None]) for end in ends]
    return clicks


def along(points: Points, shares: Sequence[float]) -> Points:
    """Return the points of an open polyline at these shares of its length, (len(shares), 2)."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    sought = np.asarray(shares) * length[-1]
    return np.stack([np.interp(sought, length, axis) for axis in points.T], axis=1)


def _integer(element: ElementTree.Element, path: str) -> int:
    text = element.findtext(path, "").strip()
    try:
        value = int(text)
    except ValueError:
        raise InputError(f"<{path}> holds {text!r} instead of a whole number.") from None
    if abs(value) > 10**6:
        raise InputError(f"<{path}> holds {value}, which is no pixel of an image.")
    return value
