"""``gatedcrf data background-clicks`` and ``cityscapes-clicks``: the files of clicks that the paper promises."""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from datamodules.annotations import Annotation, pixel_indices
from datamodules.cityscapes.files import LABEL_IDS, THINGS, CityscapesFiles
from datamodules.io.click_files import Clicks, read_clicks, write_clicks
from datamodules.io.errors import InputError
from datamodules.simulate_clicks import ClickSimulator
from datamodules.voc.datamodule import DERIVED_BACKGROUND
from datamodules.voc.scribblesup import ScribbleFiles, background_clicks
from experiments.data.output_file import prepare_file

TOLERANCE = 1e-6  # pixels; the published file differs from its rule by rounding alone


def add_parsers(commands: Any) -> None:
    """Register both commands.

    Args:
        commands: Of ``gatedcrf data``.
    """
    background = commands.add_parser("background-clicks", help="derive clicks of the background from ScribbleSup")
    background.add_argument("scribbles", help="scribble_annotation.zip, or a folder of its XML files")
    background.add_argument(
        "--out", default=DERIVED_BACKGROUND, help="file to write; default %(default)s, which is found in VOC's folder"
    )
    background.add_argument("--compare", help="a published file; reports the largest difference to it")
    background.add_argument("--force", action="store_true", help="replace what is there")
    background.set_defaults(run=_background)
    cityscapes = commands.add_parser("cityscapes-clicks", help="simulate clicks from instanceIds, Sec. 6.4")
    cityscapes.add_argument("root", help="holds leftImg8bit and gtFine")
    cityscapes.add_argument("--out", help="file to write; default ROOT/cityscapes_clicks.json")
    cityscapes.add_argument("--splits", nargs="+", choices=["train", "val"], default=["train", "val"])
    cityscapes.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    cityscapes.add_argument("--min_area", type=int, default=256, help="smaller components of stuff get none, pixels")
    cityscapes.add_argument("--force", action="store_true", help="replace what is there")
    cityscapes.set_defaults(run=_cityscapes)


def _background(options: argparse.Namespace) -> None:
    out, files = Path(options.out), ScribbleFiles(Path(options.scribbles))
    prepare_file(out, options.force)
    names = sorted(files.members)
    published = read_clicks(Path(options.compare), {0: 0}) if options.compare else None
    clicks = {name: background_clicks(files.read(name)[0]) for name in track(names, "Reading", transient=True)}
    write_clicks(out, clicks, {0: 0})
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{options.out}: {sum(map(len, clicks.values()))} clicks in {len(clicks)} images")
    if published is not None:
        for line in compare(clicks, published):
            console.print(line, markup=False)


def compare(clicks: Clicks, published: Clicks) -> list[str]:
    """Return how derived clicks differ from a published file, a line each."""
    lines = []
    for here, there, text in ((clicks, published, "not published"), (published, clicks, "published but not derived")):
        if only := sorted(set(here) - set(there)):
            lines.append(f"{len(only)} images are {text}: {', '.join(only[:5])}")
    both = sorted(set(clicks) & set(published))
    unequal = [name for name in both if len(clicks[name]) != len(published[name])]
    if unequal:
        lines.append(f"{len(unequal)} images have another number of clicks: {', '.join(unequal[:5])}")
    differences = {name: _difference(clicks[name], published[name]) for name in both if name not in unequal}
    if differences:
        worst = max(differences, key=lambda name: differences[name])
        apart = sum(difference > TOLERANCE for difference in differences.values())
        lines.append(
            f"The largest difference is {differences[worst]:.3g} pixels, in {worst}; "
            f"{apart} of {len(differences)} images differ by more than {TOLERANCE:g}"
        )
    return lines


def _difference(one: Sequence[Annotation], other: Sequence[Annotation]) -> float:
    return max((float(np.abs(a.points - b.points).max()) for a, b in zip(one, other, strict=True)), default=0.0)


def _cityscapes(options: argparse.Namespace) -> None:
    if options.workers < 1 or options.min_area < 1:
        raise InputError(f"--workers is {options.workers} and --min_area is {options.min_area}; both are at least 1.")
    files = CityscapesFiles(Path(options.root))
    out = Path(options.out or files.root / "cityscapes_clicks.json")
    prepare_file(out, options.force)
    images = [(split, name) for split in options.splits for name in files.names(split)]
    simulate = partial(_simulate, files, ClickSimulator(min_area=options.min_area, things=THINGS))
    clicks = dict(_in_parallel(simulate, images, options.workers))
    write_clicks(out, clicks, dict(enumerate(LABEL_IDS)))
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{out}: {sum(map(len, clicks.values()))} clicks in {len(clicks)} images; cls is the labelId")


def _simulate(
    files: CityscapesFiles, simulator: ClickSimulator, image: tuple[str, str]
) -> tuple[str, list[Annotation]]:
    split, name = image
    clicks = files.simulate_clicks(split, name, simulator)
    return name, [Annotation(click.label, pixel_indices(click.points)) for click in clicks]


def _in_parallel(
    function: Callable[[tuple[str, str]], tuple[str, list[Annotation]]], items: Sequence[tuple[str, str]], workers: int
) -> Iterable[tuple[str, list[Annotation]]]:
    with ProcessPoolExecutor(min(workers, len(items))) as pool:
        try:
            yield from track(pool.map(function, items, chunksize=4), "Simulating", len(items), transient=True)
        except ValueError as error:
            raise InputError(str(error)) from None  # bad input, without the trace of the other process
