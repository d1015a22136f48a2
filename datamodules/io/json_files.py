"""JSON files."""

import json
from pathlib import Path
from typing import Any

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError


def read_json(path: Path, remedy: str = "remove it and repeat the command that wrote it") -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        remedy: End of the error message.

    Raises:
        InputError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); {remedy}.") from error


def write_json(path: Path, content: object) -> None:
    """Write a JSON file with :func:`atomic_write`."""
    atomic_write(path, json.dumps(content) + "\n")
