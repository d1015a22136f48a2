"""COCO annotation files, read and validated.

``pycocotools.coco`` accepts any JSON. ``pycocotools.mask`` returns uninitialized memory for RLE that does not cover
the whole image.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.io.errors import InputError
from datamodules.io.json_files import read_json

VISIBLE = 2  # visibility of a keypoint; 0 is not labeled, 1 is labeled but hidden


@dataclass(frozen=True)
class CocoImage:
    """One image of a file.

    Args:
        id: Id in the file.
        file_name: Path inside the image folder.
        size: (H, W), pixels.
        packed: Annotations as JSON. Loader processes copy every object that they touch, and COCO has millions.
    """

    id: int
    file_name: str
    size: tuple[int, int]
    packed: str = "[]"

    @property
    def name(self) -> str:
        """Path inside the image folder, without suffix."""
        return PurePosixPath(self.file_name).with_suffix("").as_posix()

    def annotations(self) -> dict[int, dict[str, Any]]:
        """Return the annotations, numbered from 1."""
        return dict(enumerate(json.loads(self.packed), 1))


@dataclass(frozen=True)
class CocoFile:
    """A validated file.

    Args:
        path: Path of the file.
        categories: Names by id, sorted by id.
        images: Images in file order.
    """

    path: Path
    categories: dict[int, str]
    images: list[CocoImage]

    @property
    def annotated(self) -> bool:
        """Whether any image has an annotation."""
        return any(image.packed != "[]" for image in self.images)

    def classes(self, background: bool) -> dict[int, int]:
        """Return the class index of each category id: from 1 in order of id, or from 0 without a background."""
        return {category: label for label, category in enumerate(self.categories, int(background))}


def read_coco(path: Path) -> CocoFile:
    """Read and validate a COCO file. Without "annotations" it is a list of images.

    Raises:
        InputError: The file is missing or malformed.
    """
    content = read_json(path, "pass a COCO annotation file")
    for key in ("images", "categories", "annotations"):
        items = content.get(key, [] if key == "annotations" else None) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InputError(f"{path} has no list {key!r}; export COCO instances or keypoints, not results.")
    categories, images = _categories(content["categories"], path), _images(content["images"], path)
    found: dict[int, list[dict[str, Any]]] = {key: [] for key in images}
    for number, item in enumerate(content.get("annotations", [])):
        where = f"{path}, annotation {item.get('id', f'at position {number}')}"
        for key, known in (("image_id", images), ("category_id", categories)):
            if _field(item, key, int, where) not in known:
                raise InputError(f"{where} has {key} {item[key]}, which is not in the file; export it again.")
        found[item["image_id"]].append(_annotation(item, images[item["image_id"]].size, where))
    packed = [replace(image, packed=json.dumps(found[image.id])) for image in images.values()]
    return CocoFile(path, dict(sorted(categories.items())), packed)


def _categories(items: list[dict[str, Any]], path: Path) -> dict[int, str]:
    categories: dict[int, str] = {}
    for item in items:
        where = f"{path}, category {item.get('id')!r}"
        category, name = _field(item, "id", int, where), _field(item, "name", str, where)
        if category in categories or name in categories.values():
            raise InputError(f"{where} ({name!r}) is not unique; give each category its own id and name.")
        categories[category] = name
    return categories


def _images(items: list[dict[str, Any]], path: Path) -> dict[int, CocoImage]:
    images: dict[int, CocoImage] = {}
    for item in items:
        where = f"{path}, image {item.get('id')!r}"
        size = (_field(item, "height", int, where), _field(item, "width", int, where))
        image = CocoImage(_field(item, "id", int, where), _field(item, "file_name", str, where), size)
        inside = PurePosixPath(image.file_name)
        if min(size) < 1 or inside.is_absolute() or ".." in inside.parts or not inside.stem:
            remedy = "expected a path inside the image folder and a positive size"
            raise InputError(f"{where} has file_name {image.file_name!r} and (H, W) {size}; {remedy}.")
        if image.id in images:
            raise InputError(f"{where} is not unique; give each image its own id.")
        images[image.id] = image
    for name, count in Counter(image.name for image in images.values()).items():
        if count > 1:
            raise InputError(f"{path} has {count} images {name!r}; rename all but one, as predictions go by name.")
    return images


def _field(item: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    if not isinstance(item.get(key), kind):
        raise InputError(f"{where} has {key} {item.get(key)!r}; expected {kind.__name__}.")
    return item[key]


def _annotation(item: Mapping[str, Any], size: tuple[int, int], where: str) -> dict[str, Any]:
    """Return the keys of an annotation that are used."""
    segmentation, box, keypoints = (item.get(key) or None for key in ("segmentation", "bbox", "keypoints"))
    if isinstance(segmentation, list):
        for polygon in segmentation:
            # pycocotools would allocate memory for points far outside, for example in other units
            if not _numbers(polygon, 2 * max(size)) or len(polygon) % 2 or len(polygon) < 6:
                remedy = f"expected [x, y, x, y, x, y, ...] in pixels of an image with (H, W) {size}"
                raise InputError(f"{where} has the polygon {str(polygon)[:60]}; {remedy}.")
    elif isinstance(segmentation, dict):
        stated, runs = segmentation.get("size"), _run_lengths(segmentation.get("counts"))
        valid = all(isinstance(run, int) and run >= 0 for run in runs) and sum(runs) == size[0] * size[1]
        if stated != list(size) or not valid:
            problem = f"is malformed or does not fill its image with (H, W) {size}"
            raise InputError(f"{where} has RLE of size {stated} that {problem}; export it again at that size.")
    elif segmentation is not None:
        raise InputError(f"{where} has the segmentation {segmentation!r}; expected polygons or RLE.")
    if box and (not _numbers(box) or len(box) != 4 or min(box[2:]) < 0):
        raise InputError(f"{where} has the bbox {box!r}; expected [x, y, width, height].")
    if keypoints and (not _numbers(keypoints) or len(keypoints) % 3 or not {0, 1, VISIBLE}.issuperset(keypoints[2::3])):
        raise InputError(f"{where} has the keypoints {keypoints!r}; expected [x, y, v, ...] with v = 0, 1 or 2.")
    if not (segmentation or box or keypoints):
        raise InputError(f"{where} has no segmentation, bbox or keypoints; remove it.")
    used = {"id": item.get("id"), "category_id": item["category_id"], "crowd": bool(item.get("iscrowd"))}
    parts = {"segmentation": segmentation, "bbox": box, "keypoints": keypoints}
    return {**used, **{key: part for key, part in parts.items() if part}}


def _run_lengths(counts: Any) -> list[Any]:
    """Return the run lengths of RLE, or an empty list if they are malformed.

    A compressed number has 5 bits per character, lowest first; the sixth bit is set if another character follows. From
    the fourth number on, each is the difference from the run length two positions earlier.
    """
    if not isinstance(counts, str):
        return counts if isinstance(counts, list) else []
    if not re.fullmatch("([P-o]{0,6}[0-O])*", counts):
        return []
    runs: list[int] = []
    for digits in re.findall("[P-o]*[0-O]", counts):
        value = sum((ord(digit) - ord("0") & 31) << 5 * place for place, digit in enumerate(digits))
        if digits[-1] >= "@":  # the highest bit is the sign
            value -= 1 << 5 * len(digits)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _numbers(values: Any, limit: float = 1e9) -> bool:
    """Return whether this is a list of numbers within (-limit, limit)."""
    return isinstance(values, list) and all(isinstance(v, int | float) and -limit < v < limit for v in values)
