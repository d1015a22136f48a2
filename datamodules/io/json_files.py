"""JSON files of which what is there is never half of it, and that are named where they are damaged all the same."""

import json
from pathlib import Path
from typing import Any

from datamodules.io.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file holds that :func:`write_json` or a run has written.

    Raises:
        InputError: It is damaged; the message names it.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}). Remove it: what wrote it will write it again.") from error
    return content


def write_json(path: Path, content: object) -> None:
    """Write JSON, moved into place when it is whole.

    Args:
        path: The file, in a folder that exists.
        content: What to write.
    """
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(path)
