"""Labels drawn in Label Studio, exported as JSON."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from datamodules.annotations import Annotation
from datamodules.coco.dataset import Region
from datamodules.importers.drawing import SCRIBBLES, Drawing, Simulator, image_name, load_json
from datamodules.io.errors import InputError
from datamodules.io.images import IMAGE_SUFFIXES

OPAQUE = 128  # least alpha of a pixel that a brush covers


def read_label_studio(
    path: Path, classes: Sequence[str], simulator: Simulator = SCRIBBLES
) -> dict[str, list[Annotation]]:
    """Return what is drawn on each image, by its name without folder and suffix.

    The eight digits that Label Studio puts before the names of uploaded files are taken off. What several people have
    drawn on an image is joined; what they have skipped or what models predict is left out.

    Args:
        path: The export. Known are keypointlabels, brushlabels and polygonlabels.
        classes: Names of the classes, by index.
        simulator: Draws inside polygons and what is brushed.

    Raises:
        InputError: Another file, an unknown label or another shape.
    """
    tasks = load_json(path)
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and "annotations" in t for t in tasks):
        raise InputError(f'{path} is no list of tasks with "annotations"; export it from Label Studio as JSON.')
    found: dict[str, list[Annotation]] = {}
    for number, task in enumerate(tasks):
        where = f"{path}, task {task.get('id', f'at position {number}')}"
        try:
            done = [annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")]
            results = [result for annotation in done for result in annotation["result"]]
            shapes = [result for result in results if result["type"].endswith("labels")]  # not choices and ratings
            name = _name(task["data"], where)
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{where} lacks {error}; export it from Label Studio as JSON.") from error
        if name in found:
            raise InputError(f"{path} has several images {name!r}; labels are found by name, so rename one.")
        sizes = {(shape.get("original_height"), shape.get("original_width")) for shape in shapes}
        if len(sizes) > 1 or any(shape.get("image_rotation") for shape in shapes):
            raise InputError(f"{where} shows {name!r} rotated or in several sizes {sizes}; label it upright.")
        found[name] = []
        if shapes:
            drawing = Drawing(where, classes, sizes.pop())
            for shape in shapes:
                _add(drawing, shape["type"], shape.get("value"))
            found[name] = drawing.annotations(simulator)
    return found


def _add(drawing: Drawing, kind: str, value: Any) -> None:
    """Add a result; its coordinates are percent of the sides of the image."""
    labels = value.get(kind) if isinstance(value, dict) else None
    if kind not in ("keypointlabels", "brushlabels", "polygonlabels"):
        raise InputError(f"{drawing.where} has {kind}; use KeyPointLabels, BrushLabels or PolygonLabels instead.")
    if not isinstance(labels, list) or len(labels) != 1:
        raise InputError(f"{drawing.where} has {kind} with the labels {labels!r}; give each region one label.")
    try:
        if kind == "brushlabels":
            region = decode_brush(value["rle"], drawing.size)
        else:
            points = [[value["x"], value["y"]]] if kind == "keypointlabels" else value["points"]
            pixels = np.array(points, dtype=np.float64) / 100 * drawing.size[::-1]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{drawing.where} has broken {kind} ({error}); export it again.") from error
    if kind == "brushlabels":
        drawing.add_region(labels[0], region)
    elif kind == "keypointlabels":
        drawing.add_clicks(labels[0], pixels)
    else:
        drawing.add_polygon(labels[0], pixels)


def decode_brush(numbers: Sequence[int], size: tuple[int, int]) -> Region:
    """Return the pixels that a brush covers, bool (H, W), from the run lengths of an RGBA picture.

    A stream of bits, the highest first: the number of values, 32 bits; the width of a value less 1, 5 bits; the widths
    less 1 of four kinds of counts, 4 bits each; then blocks of a bit, whether one value is repeated, the kind of the
    count, 2 bits, the count less 1, and that value or so many values.

    Args:
        numbers: Bytes.
        size: (H, W).

    Raises:
        InputError: Numbers that are no bytes, or no picture of that size.
    """
    data, position = bytes(list(numbers)), 0

    def read(width: int) -> int:
        nonlocal position
        first, position = position, position + width
        if position > 8 * len(data):
            raise InputError("its RLE is cut off")
        taken = int.from_bytes(data[first // 8 : -(-position // 8)], "big")
        return taken >> -position % 8 & (1 << width) - 1

    total, depth, widths = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1] or depth != 8:
        raise InputError(f"its RLE has {total} values of {depth} bits, not 4 of 8 bits for each pixel of {size}")
    values, start = np.empty(total, dtype=np.uint8), 0
    while start < total:
        repeated = read(1)
        count = 1 + read(widths[read(2)])
        if start + count > total:
            raise InputError(f"its RLE fills more than {size}")
        literal = read(8) if repeated else np.frombuffer(read(8 * count).to_bytes(count, "big"), dtype=np.uint8)
        values[start : start + count] = literal
        start += count
    return np.asarray(values.reshape(*size, 4)[..., 3] >= OPAQUE)


def _name(data: Mapping[str, Any], where: str) -> str:
    """Return the name of the image among the data of a task: an upload, a file of the server or an address."""
    names = []
    for value in data.values():
        address = urlsplit(value) if isinstance(value, str) else urlsplit("")
        path = parse_qs(address.query).get("d", [unquote(address.path)])[0]  # /data/local-files/?d=FOLDER/NAME.jpg
        if path.lower().endswith(IMAGE_SUFFIXES):
            name = image_name(path, where)
            uploaded = re.fullmatch("[0-9a-f]{8}-(.+)", name) if "/upload/" in path else None
            names.append(uploaded[1] if uploaded else name)
    if len(names) != 1:
        raise InputError(f"{where} has the images {names}; one image per task is known.")
    return names[0]
