"""COCO annotation files, read and checked.

``COCO`` of pycocotools accepts any JSON, and its ``mask`` makes stray memory of RLE that does not fill its image, so
everything is checked before.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datamodules.io.errors import InputError

VISIBLE = 2  # of a keypoint; 0 is not labeled, 1 labeled but hidden


@dataclass(frozen=True)
class CocoImage:
    """One image of a file.

    Args:
        id: As in the file.
        file_name: Path inside the folder of images.
        size: (H, W), pixels.
        packed: Its annotations as JSON: loader processes copy objects that they touch, and these would be millions.
    """

    id: int
    file_name: str
    size: tuple[int, int]
    packed: str = "[]"

    @property
    def name(self) -> str:
        """The file name without its suffix, with its folders."""
        return PurePosixPath(self.file_name).with_suffix("").as_posix()

    def annotations(self) -> dict[int, dict[str, Any]]:
        """Return what is annotated, numbered from 1."""
        return dict(enumerate(json.loads(self.packed), 1))


@dataclass(frozen=True)
class CocoFile:
    """A file that has been checked.

    Args:
        path: Where it lies.
        categories: Names by id, sorted by id.
        images: In the order of the file.
    """

    path: Path
    categories: dict[int, str]
    images: list[CocoImage]

    @property
    def annotated(self) -> bool:
        """Whether there is any annotation."""
        return any(image.annotations() for image in self.images)

    def classes(self, background: bool) -> dict[int, int]:
        """Return the class of each category id: from 1 in order of id or, without a background, from 0."""
        return {category: label for label, category in enumerate(self.categories, int(background))}


def read_coco(path: Path) -> CocoFile:
    """Read and check a COCO file; one without "annotations" is a list of images.

    Raises:
        InputError: A file that cannot be used; the message names the annotation and the remedy.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); pass a COCO annotation file.") from error
    for key in ("images", "categories", "annotations"):
        items = content.get(key, [] if key == "annotations" else None) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InputError(f"{path} has no list {key!r}; export COCO instances or keypoints, not results.")
    categories, images = dict[int, str](), dict[int, CocoImage]()
    for item in content["categories"]:
        where = f"{path}, category {item.get('id')!r}"
        category, name = _field(item, "id", int, where), _field(item, "name", str, where)
        if category in categories or name in categories.values():
            raise InputError(f"{where} ({name!r}) is there twice; give every category an id and a name of its own.")
        categories[category] = name
    for item in content["images"]:
        where = f"{path}, image {item.get('id')!r}"
        size = (_field(item, "height", int, where), _field(item, "width", int, where))
        image = CocoImage(_field(item, "id", int, where), _field(item, "file_name", str, where), size)
        inside = PurePosixPath(image.file_name)
        if min(size) < 1 or inside.is_absolute() or ".." in inside.parts or not inside.stem:
            raise InputError(
                f"{where} is {image.file_name!r} of {size[1]} x {size[0]} pixels; write its path inside the folder of "
                "images, and its size."
            )
        if image.id in images:
            raise InputError(f"{where} is there twice; give every image an id of its own.")
        images[image.id] = image
    for name, count in Counter(image.name for image in images.values()).items():
        if count > 1:
            raise InputError(
                f"{path} has {count} images {name!r}; predictions are named after them, so rename all but one."
            )
    found: dict[int, list[dict[str, Any]]] = {key: [] for key in images}
    for number, item in enumerate(content.get("annotations", [])):
        where = f"{path}, annotation {item.get('id', f'at position {number}')}"
        for key, known in (("image_id", images), ("category_id", categories)):
            if _field(item, key, int, where) not in known:
                raise InputError(f"{where} has the {key} {item[key]}, which the file does not list; export both.")
        found[item["image_id"]].append(_checked(item, images[item["image_id"]].size, where))
    return CocoFile(
        path,
        dict(sorted(categories.items())),
        [replace(image, packed=json.dumps(found[image.id])) for image in images.values()],
    )


def _field(item: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    if not isinstance(item.get(key), kind):
        raise InputError(f"{where} has the {key} {item.get(key)!r}; COCO needs one of type {kind.__name__}.")
    return item[key]


def _checked(item: Mapping[str, Any], size: tuple[int, int], where: str) -> dict[str, Any]:
    """Return the parts of an annotation that are used."""
    used = {"id": item.get("id"), "category_id": item["category_id"], "crowd": bool(item.get("iscrowd"))}
    segmentation, box, keypoints = (item.get(key) or None for key in ("segmentation", "bbox", "keypoints"))
    if isinstance(segmentation, list):
        for polygon in segmentation:
            reach = 2 * max(size)  # what lies farther out is in other units, and would take memory to draw
            if not _numbers(polygon, reach) or len(polygon) % 2 or len(polygon) < 6:
                raise InputError(
                    f"{where} has the polygon {str(polygon)[:60]}; it needs three or more pairs [x, y, x, y, x, y] in "
                    f"pixels of an image of {size[1]} x {size[0]}."
                )
    elif isinstance(segmentation, dict):
        filled = sum(_run_lengths(segmentation.get("counts"), where))
        if segmentation.get("size") != list(size) or filled != size[0] * size[1]:
            raise InputError(
                f"{where} has RLE of size {segmentation.get('size')} whose counts fill {filled} pixels, but its image "
                f"has [height, width] {list(size)}; export it at the size of the image."
            )
    elif segmentation is not None:
        raise InputError(f"{where} has the segmentation {segmentation!r}; polygons or RLE are known.")
    if box and (not _numbers(box) or len(box) != 4 or min(box[2:]) < 0):
        raise InputError(f"{where} has the bbox {box!r}; write [x, y, width, height].")
    if keypoints and (not _numbers(keypoints) or len(keypoints) % 3 or not {0, 1, VISIBLE}.issuperset(keypoints[2::3])):
        raise InputError(f"{where} has the keypoints {keypoints!r}; write [x, y, v, ...] with v = 0, 1 or {VISIBLE}.")
    if not (segmentation or box or keypoints):
        raise InputError(f"{where} has neither segmentation nor bbox nor keypoints; remove it.")
    parts = {"segmentation": segmentation, "bbox": box, "keypoints": keypoints}
    return {**used, **{key: part for key, part in parts.items() if part}}


def _numbers(values: Any, limit: float = 1e9) -> bool:
    """Whether this is a list of numbers within (-limit, limit), which neither infinity nor not-a-number is."""
    try:
        array = np.asarray(values)
    except ValueError:  # of lists that differ in length
        return False
    known = isinstance(values, list) and array.ndim == 1 and array.dtype.kind in "if"
    return known and bool((array > -limit).all() and (array < limit).all())


def _run_lengths(counts: Any, where: str) -> list[int]:
    """Return the lengths of the runs, which alternate between outside and inside.

    A compressed count takes 5 bits of each character from the lowest on, the sixth bit says that more follow, and from
    the fourth count on it is the difference to the count before the last.
    """
    runs: list[int] = []
    if isinstance(counts, str):
        value = shift = 0
        for code in (ord(character) - 48 for character in counts):
            value |= (code & 31) << shift
            shift += 5
            if not 0 <= code < 64 or shift > 40:
                raise InputError(f"{where} has broken RLE {counts[:40]!r}; export it again.")
            if code & 32:
                continue
            if code & 16:  # the sign
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
        counts = [*runs, -1] if shift else runs  # the last count is cut off
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        raise InputError(f"{where} has broken RLE {str(counts)[:40]!r}; export it again.")
    return counts
