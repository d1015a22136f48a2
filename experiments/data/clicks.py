"""``gatedcrf data background-clicks`` and ``cityscapes-clicks``: click files of the paper."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from datamodules.annotations import Annotation, pixel_indices
from datamodules.cityscapes.files import LABEL_IDS, THINGS, CityscapesFiles
from datamodules.io.click_files import Clicks, read_clicks, write_clicks
from datamodules.simulate_clicks import ClickSimulator
from datamodules.voc.scribblesup import ScribbleFiles, background_clicks
from experiments.data.arguments import check_output


def run_background(options: argparse.Namespace) -> None:
    """Derive the background clicks of VOC from ScribbleSup.

    Args:
        options: ``scribbles``, ``out``, ``compare`` and ``force``.

    Raises:
        InputError: A file cannot be read, or the output file exists.
    """
    out, files = Path(options.out), ScribbleFiles(Path(options.scribbles))
    check_output(out, options.force)
    names = sorted(files.members)
    published = read_clicks(Path(options.compare), {0: 0}) if options.compare else None
    clicks = {name: background_clicks(files.read(name)[0]) for name in track(names, "Reading", transient=True)}
    write_clicks(out, clicks, {0: 0})
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{out}: {sum(map(len, clicks.values()))} clicks in {len(clicks)} images")
    if published is not None:
        console.print(compare(clicks, published))


def compare(clicks: Clicks, published: Clicks) -> str:
    """Return how derived clicks differ from published ones, in one line."""
    both = clicks.keys() & published.keys()
    distances = {
        name: float(np.abs(_points(clicks[name]) - _points(published[name])).max(initial=0.0))
        for name in both
        if len(clicks[name]) == len(published[name])
    }
    worst = max(distances, key=lambda name: distances[name], default=None)
    largest = "" if worst is None else f"; the largest difference is {distances[worst]:.3g} pixels, in {worst}"
    return (
        f"{len(both)} images in both files, {len(clicks) - len(both)} only derived, {len(published) - len(both)} only "
        f"published, {len(both) - len(distances)} with another number of clicks{largest}"
    )


def _points(clicks: list[Annotation]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return (K, 2)."""
    return np.concatenate([np.empty((0, 2)), *(click.points for click in clicks)])


def run_cityscapes(options: argparse.Namespace) -> None:
    """Simulate clicks from the instance maps of Cityscapes, Sec. 6.4.

    Args:
        options: ``root``, ``out``, ``splits``, ``workers``, ``min_area`` and ``force``.

    Raises:
        InputError: An image or a map is missing or cannot be read, or the output file exists.
    """
    files = CityscapesFiles(Path(options.root))
    out = Path(options.out or files.root / "cityscapes_clicks.json")
    check_output(out, options.force)
    images = [(split, name) for split in options.splits for name in files.names(split)]
    simulate = partial(_simulate, files, ClickSimulator(min_area=options.min_area, things=THINGS))
    with ProcessPoolExecutor(min(options.workers, len(images))) as pool:
        found = pool.map(simulate, images, chunksize=4)
        clicks = dict(track(found, "Simulating", len(images), transient=True))
    write_clicks(out, clicks, dict(enumerate(LABEL_IDS)))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{out}: {sum(map(len, clicks.values()))} clicks in {len(clicks)} images; cls is the labelId")


def _simulate(
    files: CityscapesFiles, simulator: ClickSimulator, image: tuple[str, str]
) -> tuple[str, list[Annotation]]:
    split, name = image
    clicks = files.simulate_clicks(split, name, simulator)
    return name, [Annotation(click.label, pixel_indices(click.points)) for click in clicks]
