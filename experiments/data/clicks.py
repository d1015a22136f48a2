"""``gatedcrf data background-clicks`` and ``cityscapes-clicks``: make the click files of the paper."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from rich.progress import track

from datamodules.annotations import Annotation, pixel_indices
from datamodules.cityscapes.files import LABEL_IDS, THINGS, CityscapesFiles
from datamodules.io.click_files import Clicks, read_clicks, write_clicks
from datamodules.simulate_clicks import ClickSimulator
from datamodules.voc.scribblesup import ScribbleFiles, background_clicks
from experiments.data.arguments import check_output


def run_background(options: argparse.Namespace) -> None:
    """Derive the background clicks of VOC from ScribbleSup.

    Raises:
        InputError: A file cannot be read, or the output file exists.
    """
    files = ScribbleFiles(options.scribbles)
    check_output(options.out, options.force)
    names = sorted(files.members)
    published = read_clicks(options.compare, {0: 0}) if options.compare else None
    clicks = {name: background_clicks(files.read(name)[0]) for name in track(names, "Reading", transient=True)}
    write_clicks(options.out, clicks, {0: 0})
    print(f"{options.out}: {sum(map(len, clicks.values()))} clicks in {len(clicks)} images")
    if published is not None:
        print(compare(clicks, published))


def compare(clicks: Clicks, published: Clicks) -> str:
    """Describe in one line how derived clicks differ from published ones."""
    both = clicks.keys() & published.keys()
    distances: dict[str, float] = {}
    for name in both:
        pairs = zip(clicks[name], published[name], strict=False)
        if len(clicks[name]) == len(published[name]):
            distances[name] = max((float(np.abs(a.points - b.points).max()) for a, b in pairs), default=0.0)
    worst = max(distances, key=lambda name: distances[name], default=None)
    largest = "" if worst is None else f"; the largest difference is {distances[worst]:.3g} pixels, in {worst}"
    return (
        f"{len(both)} images in both files, {len(clicks) - len(both)} only derived, {len(published) - len(both)} only "
        f"published, {len(both) - len(distances)} with another number of clicks{largest}"
    )


def run_cityscapes(options: argparse.Namespace) -> None:
    """Simulate clicks from the instance maps of Cityscapes, Sec. 6.4.

    Raises:
        InputError: An image or a map is missing or cannot be read, or the output file exists.
    """
    files = CityscapesFiles(options.root)
    out = options.out or files.root / "cityscapes_clicks.json"
    check_output(out, options.force)
    images = [(split, name) for split in options.splits for name in files.names(split)]
    simulate = partial(_simulate, files, ClickSimulator(min_area=options.min_area, things=THINGS))
    with ProcessPoolExecutor(min(options.workers, len(images))) as pool:
        found = pool.map(simulate, images, chunksize=4)
        clicks = dict(track(found, "Simulating", len(images), transient=True))
    write_clicks(out, clicks, dict(enumerate(LABEL_IDS)))
    print(f"{out}: {sum(map(len, clicks.values()))} clicks in {len(clicks)} images; cls is the labelId")


def _simulate(
    files: CityscapesFiles, simulator: ClickSimulator, image: tuple[str, str]
) -> tuple[str, list[Annotation]]:
    clicks = files.simulate_clicks(*image, simulator)
    return image[1], [Annotation(click.label, pixel_indices(click.points)) for click in clicks]
