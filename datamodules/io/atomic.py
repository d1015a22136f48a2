"""Atomic file writes."""

import os
from contextlib import suppress
from pathlib import Path


def atomic_write(path: Path, content: str | bytes | memoryview, keep: Path | None = None) -> None:
    """Write a file so that a kill, a full disk or a power cut leaves the old file or the new one, never a part.

    Args:
        path: The file. Its folder is created if it is missing.
        content: Text is encoded as UTF-8.
        keep: New name of the file that is replaced, in the same folder. ``None`` deletes it.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.is_file():
            path.replace(keep)
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name
        finally:
            os.close(folder)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
