"""The file that names the classes of a folder, one per line."""

from pathlib import Path

from datamodules.io.errors import InputError
from datamodules.io.images import naming


def read_class_names(path: Path) -> list[str]:
    """Return the names; line k names class k - 1.

    Raises:
        InputError: A file that is missing or no text, or has an empty line or a name twice.
    """
    if not path.is_file():
        raise InputError(f"There is no {path}; write one class name per line.")
    with naming(path, "a list of class names"):
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    if "" in names or len(set(names)) < len(names):
        raise InputError(f"{path} has an empty line or a name twice; line k names class k - 1.")
    return names
