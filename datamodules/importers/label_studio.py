"""Label Studio annotations, exported as JSON."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from datamodules.coco.instances import Region
from datamodules.importers.drawing import Drawing
from datamodules.io.errors import InputError
from datamodules.io.images import IMAGE_SUFFIXES
from datamodules.io.json_files import read_json

OPAQUE = 128  # minimum alpha of a pixel covered by a brush
ADD = {
    "keypointlabels": Drawing.add_clicks,
    "brushlabels": Drawing.add_region,
    "polygonlabels": Drawing.add_polygon,
    "rectanglelabels": Drawing.add_box,
}


def read_label_studio(path: Path, classes: Sequence[str]) -> Iterator[Drawing]:
    """Yield the shapes of each image.

    The eight digits that Label Studio puts before the names of uploaded files are removed. Annotations of several
    people are merged. Skipped annotations and model predictions are ignored.

    Args:
        path: Exported JSON file with keypointlabels, brushlabels, polygonlabels and rectanglelabels.
        classes: Class names, by index.

    Raises:
        InputError: The file is malformed, or has an unknown label or shape.
    """
    tasks = read_json(path, "export it from Label Studio as JSON")
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and "annotations" in t for t in tasks):
        raise InputError(f'{path} is not a list of tasks with "annotations"; export it from Label Studio as JSON.')
    for number, task in enumerate(tasks):
        where = f"{path}, task {task.get('id', f'at position {number}')}"
        try:
            done = [annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")]
            results = [result for annotation in done for result in annotation["result"]]
            shapes = [result for result in results if result["type"].endswith("labels")]  # not choices and ratings
            name = _name(task["data"], where)
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{where} lacks {error}; export it from Label Studio as JSON.") from error
        sizes = {(shape.get("original_height"), shape.get("original_width")) for shape in shapes}
        if len(sizes) > 1 or any(shape.get("image_rotation") for shape in shapes):
            raise InputError(f"{where} has {name!r} rotated or in several sizes {sizes}; label it upright.")
        drawing = Drawing(where, name, classes, sizes.pop() if sizes else (1, 1))
        for shape in shapes:
            _add(drawing, shape["type"], shape.get("value"))
        yield drawing


def _add(drawing: Drawing, kind: str, value: Any) -> None:
    """Add one shape. Its coordinates are percentages of the image sides."""
    if kind not in ADD:
        raise InputError(
            f"{drawing.where} has {kind}; use KeyPointLabels, BrushLabels, PolygonLabels or RectangleLabels."
        )
    labels = value.get(kind) if isinstance(value, dict) else None
    if not isinstance(labels, list) or len(labels) != 1:
        raise InputError(f"{drawing.where} has {kind} with the labels {labels!r}; give each region one label.")
    try:
        if kind == "brushlabels":
            shape = decode_brush(value["rle"], drawing.size)
        else:
            shape = np.array(_points(kind, value), dtype=np.float64) / 100 * drawing.size[::-1]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{drawing.where} has malformed {kind} ({error}); export it again.") from error
    ADD[kind](drawing, labels[0], shape)


def _points(kind: str, value: Mapping[str, Any]) -> Any:
    """Return the points of a shape, (K, 2), percent."""
    if kind == "polygonlabels":
        return value["points"]
    x, y = value["x"], value["y"]
    if kind == "keypointlabels":
        return [[x, y]]
    if value.get("rotation"):
        raise ValueError("it is rotated; draw it upright")
    return [[x, y], [x + value["width"], y + value["height"]]]


def decode_brush(numbers: Sequence[int], size: tuple[int, int]) -> Region:
    """Return the pixels covered by a brush, bool (H, W), from the bytes of a run-length encoded RGBA image.

    The bit stream, highest bit first: number of values (32 bits); bits per value minus 1 (5 bits); bits per count minus
    1 for each of four kinds of counts (4 x 4 bits). Then blocks: whether one value is repeated (1 bit), kind of count
    (2 bits), count minus 1, and the repeated value or ``count`` values.

    Raises:
        ValueError: The bytes are not an image of that size.
    """
    data, position = bytes(list(numbers)), 0

    def read(width: int) -> int:
        nonlocal position
        first, position = position, position + width
        if position > 8 * len(data):
            raise ValueError("its RLE is cut off")
        taken = int.from_bytes(data[first // 8 : -(-position // 8)], "big")
        return taken >> -position % 8 & (1 << width) - 1

    total, depth, widths = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1] or depth != 8:
        raise ValueError(f"its RLE has {total} values of {depth} bits, not 4 of 8 bits for each pixel of {size}")
    values, start = np.empty(total, dtype=np.uint8), 0
    while start < total:
        repeated = read(1)
        count = 1 + read(widths[read(2)])
        if start + count > total:
            raise ValueError(f"its RLE fills more than {size}")
        literal = read(8) if repeated else np.frombuffer(read(8 * count).to_bytes(count, "big"), dtype=np.uint8)
        values[start : start + count] = literal
        start += count
    return np.asarray(values.reshape(*size, 4)[..., 3] >= OPAQUE)


def _name(data: Mapping[str, Any], where: str) -> str:
    """Return the file name of the image of a task: an uploaded file, a local file or a URL."""
    names = []
    for value in data.values():
        url = urlsplit(value) if isinstance(value, str) else urlsplit("")
        path = parse_qs(url.query).get("d", [unquote(url.path)])[0]  # /data/local-files/?d=FOLDER/NAME.jpg
        if path.lower().endswith(IMAGE_SUFFIXES):
            name = PureWindowsPath(path).name
            names.append(re.sub("^[0-9a-f]{8}-(?=.)", "", name) if "/upload/" in path else name)
    if len(names) != 1:
        raise InputError(f"{where} has the images {names}; expected one image per task.")
    return names[0]
