"""``gatedcrf data``: fetch, convert, check and look at datasets before a long run."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from datamodules.checking import LabelCounts, count_labels
from datamodules.datamodule import SegmentationDataModule
from experiments import data_clicks, data_download, data_import, data_show
from experiments.dataset_arguments import add_dataset, load_dataset

FEW = 5  # names that a message lists


def run(args: Sequence[str]) -> None:
    """Run a subcommand.

    Args:
        args: Command line without "data".

    Raises:
        ValueError: Bad input.
        SystemExit: With status 1 if the checked dataset has a fault.
    """
    parser = argparse.ArgumentParser("gatedcrf data", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    check = commands.add_parser("check", help="read every image and label and name those that are wrong")
    add_dataset(check)
    check.set_defaults(run=_check)
    for module in (data_show, data_download, data_import, data_clicks):
        module.add_parsers(commands)
    options, rest = parser.parse_known_args(args)
    reads_dataset = hasattr(options, "supervision")
    if unknown := [argument for argument in rest if not (reads_dataset and argument.startswith("--data."))]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.settings = rest
    options.run(options)


def _check(options: argparse.Namespace) -> None:
    datamodule = load_dataset(options)
    console = Console(soft_wrap=True, highlight=False)
    problems = datamodule.problems()
    for problem in problems:
        console.print(problem, markup=False)
    if problems:
        console.print(f"{len(problems)} problems")
        raise SystemExit(1)
    train, val = datamodule.train_split(), datamodule.val_split()
    report(count_labels(train, datamodule.transform.width), datamodule, console)
    console.print(
        f"{datamodule.num_classes} classes, {len(train)} training and {len(val)} validation images, no problems"
    )


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
    if outside:
        console.print(f"Clicks outside are not used; they are in {_few(list(outside))}. Are x and y swapped?")
    for index, name in enumerate(datamodule.class_names):
        if not counts.images[index]:
            console.print(f"No training image has a label of {name!r}, so it cannot be learned.")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW])
