"""JSON files."""

import json
from pathlib import Path
from typing import Any

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError


def read_json(
    path: Path, remedy: str = "remove it and repeat the command that wrote it", unique_keys: bool = False
) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        remedy: End of the error message.
        unique_keys: Refuse an object that has a key twice. JSON would keep the last one.

    Raises:
        InputError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique if unique_keys else None)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); {remedy}.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {twice!r} twice")
    return content


def write_json(path: Path, content: object) -> None:
    """Write a JSON file with :func:`atomic_write`."""
    atomic_write(path, json.dumps(content) + "\n")
