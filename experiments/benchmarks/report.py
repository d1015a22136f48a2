"""Write and print results."""

import json
from pathlib import Path
from typing import Any

from datamodules.io.atomic import atomic_write

Result = dict[str, Any]


def save_json(path: Path, result: Result) -> None:
    """Write measurements as JSON. They may be incomplete."""
    atomic_write(path, json.dumps(result, indent=2) + "\n")


def publish(folder: Path, name: str, result: Result, text: str) -> None:
    """Write ``name``.json and ``name``.md, and print the Markdown ``text``."""
    save_json(folder / f"{name}.json", result)
    atomic_write(folder / f"{name}.md", text)
    print(f"{text}\nResults are in {folder}.")


def format_number(value: float) -> str:
    """Format a number with three significant digits, or as an integer if it is at least 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
