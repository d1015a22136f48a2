"""``gatedcrf data import``: convert the labels of an annotation tool to clicks and scribbles."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from datamodules.annotations import Annotation, to_json
from datamodules.folder.files import read_class_names
from datamodules.importers.cvat import read_cvat
from datamodules.importers.drawing import CLICKS, SCRIBBLES, Drawing, Simulator, to_annotations
from datamodules.importers.label_studio import read_label_studio
from datamodules.importers.labelme import read_labelme
from datamodules.io.errors import InputError
from datamodules.io.images import list_images
from datamodules.io.json_files import write_json
from experiments.data.arguments import check_output

Labels = dict[str, list[Annotation]]
READERS: Mapping[str, Callable[[Path, Sequence[str]], Iterator[Drawing]]] = {
    "labelme": read_labelme,
    "cvat": read_cvat,
    "label-studio": read_label_studio,
}
SIMULATORS: Mapping[str, Simulator] = {"scribbles": SCRIBBLES, "clicks": CLICKS}


def run(options: argparse.Namespace) -> None:
    """Write ``clicks.json`` and ``scribbles.json`` for the images of a folder.

    Raises:
        InputError: The export cannot be read, labels no image, or an output file exists.
    """
    out: Path = options.out
    classes = read_class_names(options.classes or out / "classes.txt")
    found = to_annotations(READERS[options.tool](options.source, classes), SIMULATORS[options.regions])
    images = out / "images" / "train"
    if images.is_dir():
        known = {path.stem for path in list_images(images)}
        if others := sorted(found.keys() - known):
            print(f"Skipped {len(others)} labeled images that are not in {images}: {', '.join(others[:5])}")
        found = {name: labels for name, labels in found.items() if name in known}
    kinds = {out / "clicks.json": _select(found, clicks=True), out / "scribbles.json": _select(found, clicks=False)}
    written = {path: labels for path, labels in kinds.items() if labels}
    if not written:
        raise InputError(f"{options.source} labels none of the images; draw points, lines or regions.")
    for path in written:
        check_output(path, options.force)
    for path, labels in written.items():
        write_json(path, {name: to_json(annotations) for name, annotations in labels.items()})
        print(f"{path}: {sum(map(len, labels.values()))} {path.stem} in {len(labels)} images")


def _select(found: Labels, clicks: bool) -> Labels:
    """Return the clicks or the scribbles of the images that have some, sorted by name."""
    selected = {name: [a for a in labels if a.is_click == clicks] for name, labels in sorted(found.items())}
    return {name: labels for name, labels in selected.items() if labels}
