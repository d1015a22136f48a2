"""Arguments of ``gatedcrf data``."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from experiments import DATASETS

SUPERVISIONS = ("tags", "clicks", "keypoints", "boxes", "scribbles", "full")


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Args:
        args: Command line, starting with "data".

    Returns:
        The options. ``function`` is "module:function" of the command, and ``settings`` the ``--data.NAME=VALUE``
        arguments of a command that reads a dataset.

    Raises:
        SystemExit: Status 2 for an unknown or invalid argument, status 0 for ``--help``.
    """
    parser = make_parser()
    options, rest = parser.parse_known_args(args[1:])
    reads_dataset = hasattr(options, "supervision")
    if unknown := [argument for argument in rest if not (reads_dataset and argument.startswith("--data."))]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.settings = rest
    return options


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. :func:`parse` also accepts the options of a dataset."""
    text = "Download, convert, check and draw datasets."
    parser = argparse.ArgumentParser("gatedcrf data", description=text, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: str, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=f"{text}.", allow_abbrev=False
        )
        added.set_defaults(function=f"experiments.data.{function}")
        return added

    check = command("check", "check:run", "read every image and label, and list what is wrong")
    _add_dataset(check)
    check.add_argument("--all", action="store_true", help="print every problem, not only the first of each kind")

    show = command("show", "show:run", "draw training images, their labels and augmented crops")
    _add_dataset(show)
    show.add_argument("--count", type=_positive, default=4, help="images, evenly spaced; default %(default)s")
    show.add_argument("--crops", type=_positive, default=3, help="augmented crops per image; default %(default)s")
    show.add_argument("--out", type=Path, default="samples.png", help="PNG file to write; default %(default)s")

    download = command("download", "download:run", "download a dataset, or print where to get it and where to put it")
    download.add_argument("dataset", choices=["voc", "sbd", "scribblesup", "clicks", "cityscapes", "coco"])
    download.add_argument("root", type=Path, help="folder of the dataset, later --data.root")

    labels = command("import", "import_labels:run", "convert the labels of an annotation tool to clicks and scribbles")
    labels.add_argument("tool", choices=["labelme", "cvat", "label-studio"])
    labels.add_argument("source", type=Path, help="exported file; for LabelMe a file or the folder of its files")
    labels.add_argument("--out", type=Path, required=True, help="folder for clicks.json and scribbles.json")
    labels.add_argument("--classes", type=Path, help="file with one class name per line; default OUT/classes.txt")
    text = "draw one scribble or one click inside each polygon and brushed region; default %(default)s"
    labels.add_argument("--regions", choices=["scribbles", "clicks"], default="scribbles", help=text)

    coco = command("to-coco", "to_coco:run", "convert the PNGs of `gatedcrf predict` to COCO results")
    coco.add_argument("predictions", type=Path, help="folder of the PNGs")
    coco.add_argument("annotations", type=Path, help="COCO file of the predicted images")
    coco.add_argument("out", type=Path, help="JSON file to write")
    coco.add_argument("--no-background", action="store_true", help="if trained with --data.background=false")

    voc = command("background-clicks", "clicks:run_background", "derive the background clicks of VOC from ScribbleSup")
    voc.add_argument("scribbles", type=Path, help="scribble_annotation.zip, or a folder of its XML files")
    text = "file to write; the default, %(default)s, is read if it is in the folder of VOC"
    voc.add_argument("--out", type=Path, default="whats_the_point_clicks_bg.json", help=text)
    voc.add_argument("--compare", type=Path, help="published file; prints the largest distance to its clicks")

    city = command("cityscapes-clicks", "clicks:run_cityscapes", "simulate clicks on Cityscapes, Sec. 6.4")
    city.add_argument("root", type=Path, help="folder with leftImg8bit and gtFine")
    city.add_argument("--out", type=Path, help="file to write; default ROOT/cityscapes_clicks.json")
    city.add_argument("--splits", nargs="+", choices=["train", "val"], default=["train", "val"])
    city.add_argument("--workers", type=_positive, default=os.cpu_count(), help="processes; default %(default)s")
    text = "smallest clicked region of stuff, pixels; default %(default)s"
    city.add_argument("--min_area", type=_positive, default=256, help=text)

    for writes in (labels, coco, voc, city):
        writes.add_argument("--force", action="store_true", help="replace existing files")
    return parser


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that :func:`experiments.data.arguments.load_dataset` reads."""
    names = f"{', '.join(DATASETS)}, or your own datasets/NAME.yaml; default %(default)s"
    parser.add_argument("root", nargs="?", help="folder of the dataset; same as --data.root")
    parser.add_argument("--dataset", default="folder", help=names)
    parser.add_argument("--supervision", choices=SUPERVISIONS, default="clicks", help="default %(default)s")
    parser.epilog = "Every option of the dataset is accepted as --data.NAME=VALUE."


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)
