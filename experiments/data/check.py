"""``gatedcrf data check``: what is wrong with a dataset, counted by kind, and how much of each class it labels."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.errors import InputError
from datamodules.validation import LabelCounts, count_labels
from experiments.data.dataset_arguments import add_dataset, load_dataset

FEW = 5  # names that a line lists


def add_parsers(commands: Any) -> None:
    """Register the command.

    Args:
        commands: Of ``gatedcrf data``.
    """
    parser = commands.add_parser("check", help="read every image and label and name those that are wrong")
    add_dataset(parser)
    parser.add_argument("--all", action="store_true", help="print every problem, not only the first ones of each kind")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    datamodule = load_dataset(options)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    findings = datamodule.check()
    train, val = (findings.images.get(split, 0) for split in ("train", "val"))
    images = f"{train} training and {val} validation images"
    if findings.problems:
        list_problems(findings.problems, options.all, console)
        console.print(f"{len(findings.problems)} problems; {images} were read")
        raise SystemExit(1)
    report(count_labels(datamodule.train_split(), datamodule.stroke_width), datamodule, console)
    console.print(f"{datamodule.num_classes} classes, {images}, no problems")


def list_problems(problems: Sequence[InputError], every: bool, console: Console) -> None:
    """Print a table of the kinds with their first files, and below it the messages.

    Args:
        problems: At least one.
        every: Print all messages instead of the first ones of each kind.
        console: Where to.
    """
    kinds: dict[str, list[InputError]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    table = Table("problem", "count", "first files")
    for kind, found in kinds.items():
        table.add_row(kind, str(len(found)), _few([Path(problem.place).name for problem in found]))
    console.print(table)
    for found in kinds.values():
        for problem in found if every else found[:FEW]:
            console.print(str(problem))
    if not every and max(map(len, kinds.values())) > FEW:
        console.print(f"These are the first {FEW} of each kind; --all prints all.")


def report(counts: LabelCounts, datamodule: SegmentationDataModule, console: Console) -> None:
    """Print how much of each class training sees, and name the classes that it never sees."""
    table = Table("class", "images", "labels")
    for index, name in enumerate(datamodule.class_names):
        table.add_row(name, str(counts.images[index]), str(counts.labels[index]))
    console.print(table)
    outside = counts.outside
    console.print(
        f"{len(counts.unlabeled)} training images without a label, {sum(outside.values())} clicks outside their image"
    )
    if counts.unlabeled:
        console.print(f"Without a label: {_few(counts.unlabeled)}.")
    if outside:
        console.print(f"Clicks outside are not used; they are in {_few(list(outside))}. Are x and y swapped?")
    unseen = [repr(name) for index, name in enumerate(datamodule.class_names) if not counts.images[index]]
    if unseen:
        console.print(f"No training image has a label of {', '.join(unseen)}, so it cannot be learned.")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (", ..." if len(names) > FEW else "")
