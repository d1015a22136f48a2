"""``gatedcrf data check``: read every file of a dataset before a long run."""

import argparse
from collections.abc import Sequence

from rich.console import Console

from datamodules.folder import SUPERVISIONS, FolderDataModule


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
    check.add_argument("--supervision", choices=SUPERVISIONS, default="full", help="which labels to read")
    options = parser.parse_args(args)
    datamodule = FolderDataModule(options.root, supervision=options.supervision)
    problems = datamodule.problems()
    console = Console(soft_wrap=True, highlight=False)
    for problem in problems:
        console.print(problem, markup=False)
    console.print(
        f"{datamodule.num_classes} classes, {len(datamodule.train_split())} training and "
        f"{len(datamodule.val_split())} validation images, {len(problems)} problems"
    )
    if problems:
        raise SystemExit(1)
