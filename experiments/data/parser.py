"""Arguments of ``gatedcrf data``."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from experiments import EXPERIMENTS

SUPERVISIONS = ("clicks", "keypoints", "scribbles", "full")


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
    _add_check(commands)
    _add_show(commands)
    _add_download(commands)
    _add_import(commands)
    _add_to_coco(commands)
    _add_background_clicks(commands)
    _add_cityscapes_clicks(commands)
    return parser


def _command(commands: Any, name: str, function: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text}.", allow_abbrev=False)
    parser.set_defaults(function=f"experiments.data.{function}")
    return parser


def _add_check(commands: Any) -> None:
    parser = _command(commands, "check", "check:run", "read every image and label, and list what is wrong")
    _add_dataset(parser)
    parser.add_argument("--all", action="store_true", help="print every problem, not only the first of each kind")


def _add_show(commands: Any) -> None:
    parser = _command(commands, "show", "show:run", "draw training images, their labels and augmented crops")
    _add_dataset(parser)
    parser.add_argument("--count", type=_positive, default=4, help="images, evenly spread; default %(default)s")
    parser.add_argument("--crops", type=_positive, default=3, help="augmented crops per image; default %(default)s")
    parser.add_argument("--out", default="samples.png", help="PNG file to write; default %(default)s")


def _add_download(commands: Any) -> None:
    parser = _command(
        commands, "download", "download:run", "download a dataset, or say where to get it and where to put it"
    )
    parser.add_argument("dataset", choices=["voc", "sbd", "scribblesup", "clicks", "cityscapes", "coco"])
    parser.add_argument("root", help="folder of the dataset, later --data.root")


def _add_import(commands: Any) -> None:
    parser = _command(
        commands, "import", "import_labels:run", "convert the labels of an annotation tool to clicks and scribbles"
    )
    parser.add_argument("tool", choices=["labelme", "cvat", "label-studio"])
    parser.add_argument("source", help="exported file; for LabelMe a file or the folder of its files")
    parser.add_argument("--out", required=True, help="folder for clicks.json and scribbles.json")
    parser.add_argument("--classes", help="file with one class name per line; default OUT/classes.txt")
    parser.add_argument(
        "--regions",
        choices=["scribbles", "clicks"],
        default="scribbles",
        help="draw one scribble or one click inside each polygon and brushed region; default %(default)s",
    )
    _add_force(parser)


def _add_to_coco(commands: Any) -> None:
    parser = _command(commands, "to-coco", "to_coco:run", "convert the PNGs of `gatedcrf predict` to COCO results")
    parser.add_argument("predictions", help="folder of the PNGs")
    parser.add_argument("annotations", help="COCO file of the predicted images")
    parser.add_argument("out", help="JSON file to write")
    parser.add_argument("--no-background", action="store_true", help="if trained with --data.background=false")
    _add_force(parser)


def _add_background_clicks(commands: Any) -> None:
    parser = _command(
        commands, "background-clicks", "clicks:run_background", "derive the background clicks of VOC from ScribbleSup"
    )
    parser.add_argument("scribbles", help="scribble_annotation.zip, or a folder of its XML files")
    parser.add_argument(
        "--out",
        default="whats_the_point_clicks_bg.json",
        help="file to write; the default, %(default)s, is read if it lies in the folder of VOC",
    )
    parser.add_argument("--compare", help="published file; prints the largest distance to its clicks")
    _add_force(parser)


def _add_cityscapes_clicks(commands: Any) -> None:
    parser = _command(commands, "cityscapes-clicks", "clicks:run_cityscapes", "simulate clicks on Cityscapes, Sec. 6.4")
    parser.add_argument("root", help="folder with leftImg8bit and gtFine")
    parser.add_argument("--out", help="file to write; default ROOT/cityscapes_clicks.json")
    parser.add_argument("--splits", nargs="+", choices=["train", "val"], default=["train", "val"])
    parser.add_argument("--workers", type=_positive, default=os.cpu_count(), help="processes; default %(default)s")
    parser.add_argument(
        "--min_area", type=_positive, default=256, help="smallest clicked region of stuff, pixels; default %(default)s"
    )
    _add_force(parser)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that :func:`experiments.data.arguments.load_dataset` reads."""
    known = sorted(path.stem for path in (EXPERIMENTS / "datasets").glob("*.yaml"))
    parser.add_argument("root", nargs="?", help="folder of the dataset; same as --data.root")
    parser.add_argument("--dataset", choices=known, default="folder", help="layout of the folder; default %(default)s")
    parser.add_argument("--supervision", choices=SUPERVISIONS, default="clicks", help="default %(default)s")
    parser.epilog = "Every option of the dataset is accepted as --data.NAME=VALUE."


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace existing files")


def _positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)
