"""``gatedcrf data import``: labels drawn in a tool into a folder; ``to-coco``: predictions into COCO results."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from datamodules.annotations import Annotation, to_json
from datamodules.coco.datamodule import to_coco_results
from datamodules.coco.file import read_coco
from datamodules.folder.files import read_class_names
from datamodules.importers.cvat import read_cvat
from datamodules.importers.drawing import CLICKS, SCRIBBLES, Simulator
from datamodules.importers.label_studio import read_label_studio
from datamodules.importers.labelme import read_labelme
from datamodules.io.errors import InputError
from datamodules.io.images import list_images, read_label_map
from datamodules.io.json_files import write_json
from experiments.data.output_file import prepare_file

Labels = dict[str, list[Annotation]]


def add_parsers(commands: Any) -> None:
    """Register both commands.

    Args:
        commands: Of ``gatedcrf data``.
    """
    parser = commands.add_parser("import", help="turn what was drawn in a labeling tool into clicks and scribbles")
    parser.add_argument("tool", choices=READERS, help="where it was drawn")
    parser.add_argument("source", help="the exported file; of LabelMe, a file or the folder of its files")
    parser.add_argument("--out", required=True, help="folder for clicks.json and scribbles.json")
    parser.add_argument("--classes", help="one class name per line; default OUT/classes.txt")
    parser.add_argument(
        "--regions",
        choices=SIMULATORS,
        default="scribbles",
        help="what becomes of polygons and brushed regions: one scribble or one click inside each",
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=_import)
    parser = commands.add_parser("to-coco", help="turn the PNGs that `gatedcrf predict` writes into COCO results")
    parser.add_argument("predictions", help="folder of the PNGs")
    parser.add_argument("annotations", help="COCO file of the images that were predicted")
    parser.add_argument("out", help="JSON file to write")
    parser.add_argument("--no-background", action="store_true", help="as --data.background=false in training")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=_to_coco)


def _import(options: argparse.Namespace) -> None:
    out = Path(options.out)
    if not options.classes and not (out / "classes.txt").is_file():
        raise InputError(
            f"There is no {out / 'classes.txt'}; write one class name per line, or name it with --classes."
        )
    classes = read_class_names(Path(options.classes or out / "classes.txt"))
    found = READERS[options.tool](Path(options.source), classes, SIMULATORS[options.regions])
    console = Console(soft_wrap=True, highlight=False)
    if (out / "images" / "train").is_dir():
        known = {path.stem for path in list_images(out / "images" / "train")}
        if others := sorted(set(found) - known):
            console.print(
                f"{len(others)} labeled images are not in {out / 'images' / 'train'} and left out: "
                f"{', '.join(others[:5])}",
                markup=False,
            )
        found = {name: labels for name, labels in found.items() if name in known}
    kinds: dict[str, Labels] = {
        "clicks": {name: [a for a in labels if a.is_click] for name, labels in found.items()},
        "scribbles": {name: [a for a in labels if not a.is_click] for name, labels in found.items()},
    }
    drawn = {
        kind: {name: a for name, a in labels.items() if a} for kind, labels in kinds.items() if any(labels.values())
    }
    if not drawn:
        raise InputError(f"{options.source} labels none of the images; draw points, lines or regions.")
    for kind in drawn:
        prepare_file(out / f"{kind}.json", options.force)
    for kind, labels in drawn.items():
        path = out / f"{kind}.json"
        write_json(path, {name: to_json(annotations) for name, annotations in sorted(labels.items())})
        console.print(f"{path}: {sum(map(len, labels.values()))} {kind} in {len(labels)} images", markup=False)


def _to_coco(options: argparse.Namespace) -> None:
    folder, out = Path(options.predictions), Path(options.out)
    prepare_file(out, options.force)
    file = read_coco(Path(options.annotations))
    categories = {label: category for category, label in file.classes(not options.no_background).items()}
    results = []
    for image in track(file.images, "Converting", transient=True):
        path = folder / f"{image.name}.png"
        if not path.is_file():
            raise InputError(f"{path} is missing; predict every image of {file.path}.")
        labels = read_label_map(path, max(categories, default=0) + 1)
        if labels.shape != image.size:
            raise InputError(
                f"{path} is {labels.shape[1]} x {labels.shape[0]}, but {file.path} says {image.size[1]} x "
                f"{image.size[0]}; predict the images at their own size."
            )
        results += to_coco_results(labels, image.id, categories)
    write_json(out, results)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    labeled = len({result["image_id"] for result in results})
    console.print(f"{out}: {len(results)} results in {labeled} of {len(file.images)} images")
    if not results:
        console.print(f"{folder} shows none of its categories; COCO.loadRes cannot read an empty list.")


def _read_labelme(source: Path, classes: Sequence[str], simulator: Simulator) -> Labels:
    """Read one file or all of a folder."""
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not paths:
        raise InputError(f"{source} holds no JSON files; name the folder that LabelMe saves into.")
    found: Labels = {}
    for path in paths:
        name, annotations = read_labelme(path, classes, simulator)
        if name in found:
            raise InputError(f"{path} labels {name!r} again; labels are found by name, so rename one of the images.")
        found[name] = annotations
    return found


READERS: Mapping[str, Callable[[Path, Sequence[str], Simulator], Labels]] = {
    "labelme": _read_labelme,
    "cvat": read_cvat,
    "label-studio": read_label_studio,
}
SIMULATORS: Mapping[str, Simulator] = {"scribbles": SCRIBBLES, "clicks": CLICKS}
