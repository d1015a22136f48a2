"""Published click files: ``{"NAME": [{"x": 12.5, "y": 34.0, "cls": 3}, ...], ...}``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.annotations import Annotation
from datamodules.io.errors import InputError
from datamodules.io.json_files import read_json, write_json
from datamodules.sample import IGNORE_INDEX

MAX_COORDINATE = 1e9  # pixels; NaN and infinity are not below it

Clicks = dict[str, list[Annotation]]


def read_clicks(path: Path, classes: Mapping[int, int]) -> Clicks:
    """Read the clicks of each image, in file order, including clicks outside their image.

    Args:
        path: Click file. An optional "rank" of a click, 1 for the first, becomes its 0-based rank.
        classes: Class index of each "cls". Clicks of class IGNORE_INDEX are dropped.

    Raises:
        InputError: The file is missing or malformed, or a class is not in ``classes``.
    """
    content = read_json(path, "see: gatedcrf data download --help")
    if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
        form = '{"NAME": [{"x": 12.5, "y": 34.0, "cls": 3}, ...], ...}'
        raise InputError(f"{path} is not of the form {form}.")
    clicks: Clicks = {}
    for name, items in content.items():
        found = [_parse(item, classes, f"{path}, image {name!r}") for item in items]
        clicks[name] = [click for click in found if click.label != IGNORE_INDEX]
    return clicks


def _parse(item: Any, classes: Mapping[int, int], where: str) -> Annotation:
    try:
        x, y, label, rank = item["x"], item["y"], classes[item["cls"]], int(item.get("rank", 1)) - 1
        valid = rank >= 0 and abs(x) < MAX_COORDINATE and abs(y) < MAX_COORDINATE
    except (KeyError, TypeError, ValueError, AttributeError):
        valid = False
    if not valid:
        form = f"a click with finite x and y and a cls of {min(classes)} to {max(classes)}"
        raise InputError(f"{where}: {item!r} is not {form}.")
    return Annotation(label, np.array([[x, y]], dtype=np.float64), rank)


def write_clicks(path: Path, clicks: Mapping[str, Sequence[Annotation]], values: Mapping[int, int]) -> None:
    """Write a click file atomically. ``values`` is the "cls" of each class index."""
    content = {
        name: [{"x": x, "y": y, "cls": values[click.label]} for click in items for x, y in click.points.tolist()]
        for name, items in clicks.items()
    }
    write_json(path, content)


def merge(files: Sequence[Clicks]) -> Clicks:
    """Merge the clicks of images that are in all files. Clicks of later files are drawn on top."""
    names = [name for name in next(iter(files), {}) if all(name in clicks for clicks in files)]
    return {name: [click for clicks in files for click in clicks[name]] for name in names}
