"""``gatedcrf data check``: problems of a dataset, or its labels per class."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.errors import InputError
from datamodules.validation import LabelCounts, count_labels
from experiments.data.arguments import load_dataset

SHOWN = 5  # names per line, and problems per kind without --all


def run(options: argparse.Namespace) -> None:
    """Read every image and label, and print the problems or the number of labels per class.

    Raises:
        InputError: The dataset cannot be opened.
        SystemExit: Status 1 if there is a problem.
    """
    datamodule = load_dataset(options)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    report = datamodule.check()
    train, val = (report.images.get(split, 0) for split in ("train", "val"))
    images = f"{train} training and {val} validation images"
    if report.problems:
        print_problems(report.problems, options.all, console)
        console.print(f"{len(report.problems)} problems in {images}")
        raise SystemExit(1)
    print_labels(count_labels(datamodule.train_split(), datamodule.stroke_width), datamodule, console)
    console.print(f"{datamodule.num_classes} classes, {images}, no problems")


def print_problems(problems: Sequence[InputError], every: bool, console: Console) -> None:
    """Print a table of the kinds of problems, then their messages: the first of each kind, or ``every`` one."""
    kinds: dict[str, list[InputError]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    table = Table("problem", "count", "first files")
    for kind, found in kinds.items():
        table.add_row(kind, str(len(found)), _first([Path(problem.place).name for problem in found]))
    console.print(table)
    for found in kinds.values():
        for problem in found if every else found[:SHOWN]:
            console.print(str(problem))
    if not every and max(map(len, kinds.values())) > SHOWN:
        console.print(f"Printed the first {SHOWN} problems of each kind; --all prints all.")


def print_labels(counts: LabelCounts, datamodule: SegmentationDataModule, console: Console) -> None:
    """Print the number of labels per class, and the classes without any."""
    table = Table("class", "images", "labels")
    for index, name in enumerate(datamodule.class_names):
        table.add_row(name, str(counts.images[index]), str(counts.labels[index]))
    console.print(table)
    console.print(
        f"{len(counts.unlabeled)} training images without labels, "
        f"{sum(counts.outside.values())} clicks outside their image"
    )
    if counts.unlabeled:
        console.print(f"Without labels: {_first(counts.unlabeled)}.")
    if counts.outside:
        console.print(f"Clicks outside are ignored: {_first(list(counts.outside))}. Are x and y swapped?")
    unseen = [name for index, name in enumerate(datamodule.class_names) if not counts.images[index]]
    if unseen:
        console.print(f"Classes without labels in any training image: {', '.join(unseen)}.")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
