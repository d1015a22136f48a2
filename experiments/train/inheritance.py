"""``base:`` inheritance of experiment files: each file names the files it changes, and they are read first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datamodules.io.errors import InputError
from experiments import EXPERIMENTS


def find_config(name: str, folder: Path | None = None) -> Path:
    """Return the file that ``name`` stands for: beside ``folder``, in the working directory, or among the shipped ones.

    Raises:
        InputError: There is no such file; the message lists the shipped ones.
    """
    for root in (folder or Path(), EXPERIMENTS):
        if (root / name).is_file():
            return (root / name).resolve()
    shipped = sorted(str(path.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.rglob("*.yaml"))
    raise InputError(f"There is no configuration {name!r}; shipped with the package: {', '.join(shipped)}.")


def expand(path: Path, below: Sequence[Path] = ()) -> list[Path]:
    """Return a file after all files it is based on, in the order in which they are merged.

    Raises:
        InputError: A file that is missing, is no mapping, is based on itself, or uses the key ``config``.
    """
    if path in below:
        raise InputError(f"{path} is based on itself: {' -> '.join(p.name for p in (*below, path))}.")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; write keys and values.")
    if "config" in content:  # merged shallowly and silently by jsonargparse
        raise InputError(f"{path} uses the key 'config'; name the files it changes under 'base'.")
    bases = content.get("base") or []
    names = [bases] if isinstance(bases, str) else bases
    files = [file for name in names for file in expand(find_config(name, path.parent), (*below, path))]
    return [*files, path]


def expand_arguments(args: Sequence[str]) -> list[str]:
    """Replace each ``-c FILE`` or ``--config FILE`` by one ``--config`` per file that it is based on.

    Raises:
        InputError: See :func:`expand`.
    """
    expanded: list[str] = []
    rest = iter(args)
    for arg in rest:
        option, _, value = arg.partition("=")
        if option not in ("-c", "--config"):
            expanded.append(arg)
            continue
        value = value or next(rest, "")
        expanded += [part for file in expand(find_config(value)) for part in ("--config", str(file))]
    return expanded


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes`` merged into it, mapping by mapping; anything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged
