"""``gatedcrf data import``: convert the labels of an annotation tool to clicks, scribbles and boxes."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from datamodules.annotations import Annotation, Box, to_json
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
    """Write ``clicks.json``, ``scribbles.json`` and ``boxes.json`` for the images of a folder.

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
    kinds = {out / f"{kind}.json": _select(found, kind) for kind in ("clicks", "scribbles", "boxes")}
    written = {path: labels for path, labels in kinds.items() if labels}
    if not written:
        raise InputError(f"{options.source} labels none of the images; draw points, lines, regions or rectangles.")
    for path in written:
        check_output(path, options.force)
    for path, labels in written.items():
        write_json(path, {name: to_json(annotations) for name, annotations in labels.items()})
        print(f"{path}: {sum(map(len, labels.values()))} {path.stem} in {len(labels)} images")


def _select(found: Labels, kind: str) -> Labels:
    """Return the annotations of a kind, of the images that have some, sorted by name."""
    selected = {name: [label for label in labels if _kind(label) == kind] for name, labels in sorted(found.items())}
    return {name: labels for name, labels in selected.items() if labels}


def _kind(label: Annotation) -> str:
    if isinstance(label, Box):
        return "boxes"
    return "clicks" if label.is_click else "scribbles"
