"""JSON files."""

import json
from pathlib import Path
from typing import Any

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """Read a file written by :func:`write_json`.

    Raises:
        InputError: The file is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}). Remove it and repeat the command that wrote it.") from error
    return content


def write_json(path: Path, content: object) -> None:
    """Write a JSON file atomically, see :func:`atomic_write`."""
    atomic_write(path, json.dumps(content) + "\n")
