"""Writing and printing of results."""

import json
from pathlib import Path
from typing import Any

from datamodules.io.atomic import atomic_write

Result = dict[str, Any]


def save_json(path: Path, result: Result) -> None:
    """Write measurements, which may be incomplete, as JSON."""
    atomic_write(path, json.dumps(result, indent=2) + "\n")


def publish(folder: Path, name: str, result: Result, text: str) -> None:
    """Print the Markdown ``text`` and write it as ``name``.md, and the measurements as ``name``.json."""
    save_json(folder / f"{name}.json", result)
    atomic_write(folder / f"{name}.md", text)
    print(text, f"Results are in {folder}.", sep="\n")


def format_number(value: float) -> str:
    """Format with three significant digits, or as an integer from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
