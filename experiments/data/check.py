"""``gatedcrf data check``: problems of a dataset, or its labels per class."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from datamodules.io.errors import InputError
from datamodules.label_counts import LabelCounts
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
    if report.counts:
        print_labels(report.counts, datamodule.class_names, console)
    if report.problems:
        print_problems(report.problems, options.all, console)
    for warning in report.warnings:
        console.print(f"Warning: {warning}")
    if report.problems:
        console.print(f"{_count(report.problems, 'problem')} in {images}")
        raise SystemExit(1)
    warnings = f", {_count(report.warnings, 'warning')}" if report.warnings else ""
    console.print(f"{datamodule.num_classes} classes, {images}, no problems{warnings}")


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


def print_labels(counts: Mapping[str, LabelCounts], class_names: Sequence[str], console: Console) -> None:
    """Print the training labels and the pixels of the validation masks of each class."""
    train, val = counts["train"], counts["val"]
    table = Table("class", "images", "labels", "validation images", "pixels")
    for index, name in enumerate(class_names):
        cells = [train.images[index], train.labels[index], val.images[index]]
        table.add_row(name, *map(str, cells), f"{val.labels[index] / max(1, val.labels.total()):.1%}")
    console.print(table)
    outside = sum(train.outside.values())
    console.print(f"{len(train.unlabeled)} training images without labels, {outside} clicks outside their image")
    if train.unlabeled:
        console.print(f"Without labels: {_first(train.unlabeled)}.")
    if train.outside:
        console.print(f"Clicks outside are not used: {_first(list(train.outside))}.")


def _count(found: Sequence[object], name: str) -> str:
    return f"{len(found)} {name}{'' if len(found) == 1 else 's'}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
