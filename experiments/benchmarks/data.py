"""``gatedcrf benchmark data``: training samples per second on one core, compared with other libraries."""

import argparse
from collections.abc import Callable, Sequence
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
from experiments.benchmarks.sample_methods import CROP, DECODER, TORCHVISION, Methods, make_methods
from experiments.tables.report import to_markdown

BATCH, IMAGES = 16, 64
CPU = torch.device("cpu")
HEADER = ["samples", "per second", "ms", "times torchvision", "of the decoder's speed"]


def run(options: argparse.Namespace) -> None:
    """Measure, print the table, and write data.json and data.md."""
    with TemporaryDirectory() as name:
        images = Path(name) / "images"
        draw_photographs(images, IMAGES)
        print(f"making samples of {IMAGES} images, {options.repeats} times with each method")
        result = _measure(make_methods(list_images(images), Path(name) / "cache"), options.repeats)
    publish(options.out, "data", result, to_text(result))


def _measure(methods: Methods, repeats: int) -> Result:
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        steps = {name: partial(_make_batches, *method, name != DECODER) for name, method in methods.items()}
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
        "images": IMAGES,
        "repeats": repeats,
        "ms": {name: total / IMAGES for name, total in ms.items()},
    }


def _make_batches(method: Callable[[Any], Any], arguments: Sequence[Any], collate: bool) -> None:
    for first in range(0, len(arguments), BATCH):
        samples = [method(argument) for argument in arguments[first : first + BATCH]]
        if collate:
            default_collate(samples)


def to_text(result: Result) -> str:
    """Return the conditions and the table as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    conditions = (
        f"{result['hardware']}, {versions}. {result['images']} generated JPEGs of 500 x 375. Every row makes the same "
        f"samples: crops of {CROP} x {CROP} with a zoom of 0.5 to 2 and {CLICKS} clicks. Batches of {BATCH}, one "
        f"process, one thread, median of {result['repeats']} runs."
    )
    table = [HEADER]
    for name, ms in result["ms"].items():
        relative = f"{result['ms'][TORCHVISION] / ms:.2f}", f"{100 * result['ms'][DECODER] / ms:.0f} %"
        table.append([name, f"{1e3 / ms:,.0f}", f"{ms:.2f}", *relative])
    return f"{conditions}\n\n{to_markdown(table)}"
