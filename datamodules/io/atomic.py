"""Atomic file writes."""

import os
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from threading import get_native_id
from time import time

ABANDONED_S = 3600.0  # without a write; builds write every few milliseconds


def atomic_write(path: Path, content: str | bytes | memoryview, keep: Path | None = None) -> None:
    """Write a file so that a kill, a full disk or a power cut leaves the old file or the new one, never a part.

    Several threads and processes may write the same file. The last one wins.

    Args:
        path: The file. Its folder is created if it is missing.
        content: Text is encoded as UTF-8.
        keep: New name of the file that is replaced, in the same folder. ``None`` deletes it.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.is_file():
            path.replace(keep)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
    with suppress(OSError):  # some file systems cannot sync a folder, and the file is already in place
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def part_of(path: Path) -> Path:
    """Return the name of a file while this thread writes it: NAME.HOST.PROCESS-THREAD.part."""
    return path.with_name(f"{path.name}.{gethostname()}.{os.getpid()}-{get_native_id()}.part")


def remove_parts(folder: Path) -> None:
    """Remove the parts that killed processes have left. No other process may write to the folder at this time."""
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)


def is_abandoned(part: Path) -> bool:
    """Return whether the process that wrote a part has ended: by its number or, on another host, by its last write."""
    name, _, writer = part.stem.rpartition(".")
    process = writer.partition("-")[0]
    if name.endswith(f".{gethostname()}") and process.isdecimal():
        try:
            os.kill(int(process), 0)  # sends no signal
        except ProcessLookupError:
            return True
        except PermissionError:  # a process of another user
            pass
    return time() - part.stat().st_mtime > ABANDONED_S
