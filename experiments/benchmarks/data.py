"""``gatedcrf benchmark data``: training samples per second on one core, compared with other libraries."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import PIL
import torch
import torchvision  # type: ignore[import-untyped]
from torch.utils.data import default_collate

from datamodules.io.images import list_images
from experiments.benchmarks.measure import hardware, median_ms
from experiments.benchmarks.photographs import CLICKS, draw_photographs
from experiments.benchmarks.report import Result, publish
from experiments.benchmarks.sample_methods import CROP, METHODS, make_methods
from experiments.tables.report import to_markdown

BATCH, IMAGES = 16, 64
CPU = torch.device("cpu")
HEADER = ["samples", "from", "per second and core", "ms", "times torchvision", "of the floor's pace"]


def run(options: argparse.Namespace) -> None:
    """Measure, print the table, and write data.json and data.md."""
    with TemporaryDirectory() as name:
        images = Path(name) / "images"
        draw_photographs(images, IMAGES)
        print(f"measuring {len(METHODS)} ways to read {IMAGES} images, {options.repeats} times each")
        result = measure(list_images(images), Path(name) / "cache", options.repeats)
    publish(options.out, "data", result, to_text(result))


def measure(paths: list[Path], cache: Path, repeats: int) -> Result:
    """Return all measurements, as written to JSON.

    Args:
        paths: Image files.
        cache: Folder for decoded images.
        repeats: How often each method makes a sample of every image.
    """
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        steps = {
            name: partial(_make_batches, method, len(paths), list if name == "floor" else default_collate)
            for name, method in make_methods(paths, cache).items()
        }
        for step in steps.values():
            step()
        ms = median_ms(steps, CPU, repeats, float("inf"))
        machine = hardware(CPU)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    return {
        "hardware": machine,
        "versions": {"Pillow": PIL.__version__, "OpenCV": cv2.__version__, "torchvision": torchvision.__version__},
        "images": len(paths),
        "repeats": repeats,
        "ms": {name: total / len(paths) for name, total in ms.items()},
    }


def to_text(result: Result) -> str:
    """Return the conditions and the table as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    conditions = (
        f"{result['hardware']}, {versions}. {result['images']} generated JPEGs of 500 x 375. Every row makes the same "
        f"samples: crops of {CROP} x {CROP} with a zoom of 0.5 to 2 and {CLICKS} clicks. Batches of {BATCH}, one "
        f"process, one thread, median of {result['repeats']} runs."
    )
    table, times = [HEADER], result["ms"]
    for name, source in METHODS.items():
        ms = times[name]
        shares = [f"{times['torchvision'] / ms:.2f}", f"{100 * times['floor'] / ms:.0f} %"]
        table.append([name, source, f"{1e3 / ms:,.0f}", f"{ms:.2f}", *shares])
    return f"{conditions}\n\n{to_markdown(table)}"


def _make_batches(method: Callable[[int], Any], number: int, collate: Callable[[list[Any]], object]) -> None:
    for first in range(0, number, BATCH):
        collate([method(index) for index in range(first, min(first + BATCH, number))])
