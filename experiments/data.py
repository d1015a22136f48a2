"""``gatedcrf data check``: read every file of a dataset before a long run, and count its labels."""

import argparse
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from datamodules.annotations import drop_outside
from datamodules.folder import SUPERVISIONS, FolderDataModule
from datamodules.folder_dataset import FolderDataset
from datamodules.sample import IGNORE_INDEX


def run(args: Sequence[str]) -> None:
    """Check a folder and print what is wrong with it.

    Args:
        args: Command line without "data".

    Raises:
        ValueError: A folder without the layout of ``datamodules/folder.py``.
        SystemExit: With status 1 if a file is wrong.
    """
    parser = argparse.ArgumentParser("gatedcrf data", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    check = commands.add_parser("check", help="read every image and label and name those that are wrong")
    check.add_argument("root", help="a folder with classes.txt, images/ and masks/ or weak labels")
    check.add_argument("--supervision", choices=SUPERVISIONS, default="clicks", help="which labels to read")
    options = parser.parse_args(args)
    datamodule = FolderDataModule(options.root, supervision=options.supervision)
    console = Console(soft_wrap=True, highlight=False)
    problems = datamodule.problems()
    for problem in problems:
        console.print(problem, markup=False)
    if problems:
        console.print(f"{len(problems)} problems")
        raise SystemExit(1)
    train, val = datamodule.train_split(), datamodule.val_split()
    report(train, datamodule.class_names, console)
    console.print(
        f"{datamodule.num_classes} classes, {len(train)} training and {len(val)} validation images, no problems"
    )


def report(train: FolderDataset, class_names: Sequence[str], console: Console) -> None:
    """Print how much of each class training sees, and name the classes that it never sees.

    Args:
        train: A split whose files are sound.
        class_names: C names.
        console: Where to print.
    """
    images, amounts = Counter[int](), Counter[int]()
    unlabeled, outside = 0, dict[str, int]()
    for index in track(range(len(train)), "Counting", transient=True):
        labels = train.labels(index)
        if isinstance(labels, list):
            inside = drop_outside(labels, train.image(index).shape)
            if len(inside) < len(labels):
                outside[train.name(index)] = len(labels) - len(inside)
            counts = Counter(annotation.label for annotation in inside)
        else:
            values, pixels = np.unique(labels[labels != IGNORE_INDEX], return_counts=True)
            counts = Counter(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
        images.update(counts.keys())
        amounts.update(counts)
        unlabeled += not counts
    table = Table("class", "images", "labels")
    for index, name in enumerate(class_names):
        table.add_row(name, str(images[index]), str(amounts[index]))
    console.print(table)
    console.print(f"{unlabeled} training images without a label, {sum(outside.values())} clicks outside their image")
    if outside:
        console.print(f"Clicks outside are not used; they are in {', '.join(list(outside)[:5])}. Are x and y swapped?")
    for index, name in enumerate(class_names):
        if not images[index]:
            console.print(f"No training image has a label of {name!r}, so it cannot be learned.")
