"""Refusing a file that cannot be written before long work instead of after it."""

import os
from pathlib import Path

from datamodules.io.errors import InputError


def prepare_file(path: Path, force: bool) -> None:
    """Make the folder of a file that is going to be written.

    Args:
        path: The file.
        force: Whether it may be there.

    Raises:
        InputError: It is there, or cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file.")
    if path.exists() and not force:
        raise InputError(f"{path} is already there; name another, or replace it with --force.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); name another.") from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent} cannot be written to; name a file in another folder.")
