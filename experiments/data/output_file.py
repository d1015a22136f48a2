"""Refusing a file that cannot be written before long work instead of after it."""

import os
from pathlib import Path


def prepare_file(path: Path, force: bool) -> None:
    """Make the folder of a file that is going to be written.

    Args:
        path: The file.
        force: Whether it may be there.

    Raises:
        ValueError: It is there, or cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file.")
    if path.exists() and not force:
        raise ValueError(f"{path} is already there; name another, or replace it with --force.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); name another.") from error
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path.parent} cannot be written to; name a file in another folder.")
