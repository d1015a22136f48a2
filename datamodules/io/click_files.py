"""Published files of clicks: ``{"NAME": [{"x": 12.5, "y": 34.0, "cls": 3}, ...], ...}``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.annotations import Annotation
from datamodules.io.errors import InputError
from datamodules.io.json_files import write_json
from datamodules.sample import IGNORE_INDEX

FAR = 1e9  # pixels; no coordinate, and NaN is not below it

Clicks = dict[str, list[Annotation]]


def read_clicks(path: Path, classes: Mapping[int, int]) -> Clicks:
    """Return the clicks of each image, in the order of the file. Points outside their image are kept.

    Args:
        path: The file. Further keys of an item, such as "rank", are passed over.
        classes: Class index per value of "cls"; IGNORE_INDEX leaves a click out.

    Raises:
        InputError: A file that is missing, not of that form, or with a class that is not in ``classes``.
    """
    clicks: Clicks = {}
    for name, items in _load(path).items():
        if not isinstance(items, list):
            raise InputError(f'{path}: {name!r} is no list; write [{{"x": 12.5, "y": 34.0, "cls": 3}}, ...].')
        found = [_parse(path, name, item, classes) for item in items]
        clicks[name] = [click for click in found if click is not None]
    return clicks


def write_clicks(path: Path, clicks: Mapping[str, Sequence[Annotation]], values: Mapping[int, int]) -> None:
    """Write clicks in that form.

    Args:
        path: The file, moved into place when it is whole.
        clicks: Per image.
        values: "cls" of each class index.
    """
    content = {
        name: [{"x": x, "y": y, "cls": values[click.label]} for click in items for x, y in click.points.tolist()]
        for name, items in clicks.items()
    }
    write_json(path, content)


def merge(files: Sequence[Clicks]) -> Clicks:
    """Join the clicks of the images that all files name; those of later files lie on top."""
    names = [name for name in next(iter(files), {}) if all(name in clicks for clicks in files)]
    return {name: [click for clicks in files for click in clicks[name]] for name in names}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}; see: gatedcrf data download --help.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); fetch it again.") from error
    if not isinstance(content, dict):
        raise InputError(f'{path} holds a {type(content).__name__}; clicks are {{"NAME": [...], ...}}.')
    return content


def _parse(path: Path, name: str, item: Any, classes: Mapping[int, int]) -> Annotation | None:
    numbers: list[Any] = [item.get(key) for key in ("x", "y", "cls")] if isinstance(item, dict) else []
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise InputError(f'{path}: {item!r} of {name!r} is no click; write {{"x": 12.5, "y": 34.0, "cls": 3}}.')
    x, y, label = numbers
    if not (abs(x) < FAR and abs(y) < FAR) or label not in classes:
        raise InputError(
            f"{path}: {item!r} of {name!r} is not finite, or no class of {min(classes)} to {max(classes)}."
        )
    index = classes[int(label)]
    return None if index == IGNORE_INDEX else Annotation(index, np.array([[x, y]], dtype=np.float64))
